"""What harness tests fabricate: images, scores, records. A harness needs no detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detector import scorefile
from harness import records

SIDE = 24


def draw(path: Path, seed: int, value: int = 128, side: int = 32) -> None:
    """Writes a gray noise image."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(value, 12, (side, side)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def scores_of(
    category: str = "toys/duck", *, seed: int = 0, gain: float = 1.0, **protocol: Any
) -> scorefile.Scores:
    """Returns scores of six normal and six anomalous images; the gain is the detector's worth."""
    rng = np.random.default_rng(seed)
    maps, masks, items = [], [], []
    for i in range(12):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        if i >= 6:
            mask[4 : 4 + i, 6:12] = 1
        maps.append((rng.random((SIDE, SIDE)) + gain * mask * rng.random()).astype(np.float32))
        masks.append(mask)
        items.append(
            {
                "path": f"test/{i}.png",
                "defect": "dent" if i >= 6 else "good",
                "anomalous": i >= 6,
                "has_mask": i >= 6,
                **scorefile.image_scores(maps[-1]),
            }
        )
    stated = {"detector": "realnet", "source": "sdas", "resolution": SIDE, **protocol}
    run = {"seed": stated.pop("seed", 0), **stated.pop("run", {})}
    return scorefile.Scores(
        category=category,
        maps_NHW=np.stack(maps),
        masks_NHW=np.stack(masks),
        items=items,
        protocol=stated,
        run=run,
    )


def record_of(
    category: str = "duck",
    value: float | None = 0.8,
    *,
    method: str = "realnet",
    source: str = "sdas",
    seed: int | None = 0,
    version: int = 1,
    created: str = "2026-01-01T00:00:00Z",
    kind: str = "detection",
    category_kind: str = "unknown",
    dataset: str = "toys",
    metrics: dict[str, float] | None = None,
    examples: list[Any] | None = None,
    notes: list[str] | None = None,
    **protocol: Any,
) -> records.Record:
    """Returns a record with one metric, or with the given ones."""
    values = metrics or {"image_auroc_max": value}
    return {
        "schema": records.SCHEMA,
        "kind": kind,
        "dataset": dataset,
        "category": category,
        "category_kind": category_kind,
        "method": method,
        "source": source,
        "seed": seed,
        "protocol": {"resolution": 64, **protocol},
        "run": {},
        "metrics": {
            name: {
                "metric": name.split("@")[0],
                "version": version,
                "higher_is_better": not name.startswith(("fid", "kid")),
                "value": number,
            }
            | ({"reason": "one class only: undefined"} if number is None else {})
            for name, number in values.items()
        },
        "counts": {"images": 12},
        "notes": notes or [],
        "artifacts": {"examples": examples or []},
        "code": {"sia-gen": "0"},
        "created": created,
    }
