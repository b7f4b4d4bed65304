"""The score file: what a detector says about a category's test images, for any harness to read.

A folder with three files, all in the order of `items`:

    maps.npy     float32 (N, H, W), finite: the anomaly map, higher is more anomalous
    masks.npy    uint8 (N, H, W): 1 where the ground truth is anomalous, 0 elsewhere
    scores.json  {"schema": 2, "category": "dataset/name", "items": [...], "protocol": {...},
                  "run": {...}}

`protocol` holds all that must agree before two results may share a row of a leaderboard; `run`
holds what belongs to this one result: its seed, checkpoint, times. Files of schema 1 have no `run`:
what they say about it among the protocol's keys is told apart when they are read.

An item is {"path", "defect", "anomalous", "has_mask", "score_max", "score_avgpool16_max"}. An
anomalous image without mask counts for image metrics and is left out of pixel metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sia_gen.core.errors import UserError
from sia_gen.core.store.files import new_folder, read_json, write_json

SCHEMA = 2
# Where schema 1 told about the one run among the protocol's keys.
_RUN_KEYS_OF_SCHEMA_1 = frozenset({
    "run", "seed", "category", "dataset", "checkpoint", "checkpoint_sha256", "run_sha256",
    "shards_sha256", "source_run_sha256", "images", "train_images",
    "synthetic_images", "normal_images", "test_images", "seconds", "created", "device", "threads",
    "foreground", "host",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Score maps of one category; maps_NHW float32, masks_NHW uint8; the rest: see above."""

    category: str
    maps_NHW: npt.NDArray[np.float32]
    masks_NHW: npt.NDArray[np.uint8]
    items: list[dict[str, Any]]
    protocol: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)


def image_scores(map_HW: npt.NDArray[np.float32]) -> dict[str, float]:
    """Returns an image's scores: the map's maximum, and that of its 16 x 16 window means."""
    window = min(16, *map_HW.shape)
    means = ndimage.uniform_filter(map_HW.astype(np.float64), window, mode="constant")
    # Only windows wholly inside count; uniform_filter centres window i at i + window // 2.
    first = window // 2
    height, width = map_HW.shape
    inner = means[first : first + height - window + 1, first : first + width - window + 1]
    return {"score_max": float(map_HW.max()), "score_avgpool16_max": float(inner.max())}


def write(folder: Path, scores: Scores) -> None:
    """Publishes a score folder in one step; refuses maps that are not finite or do not match."""
    check(scores, str(folder))
    with new_folder(folder) as temporary:
        np.save(temporary / "maps.npy", scores.maps_NHW.astype(np.float32))
        np.save(temporary / "masks.npy", scores.masks_NHW.astype(np.uint8))
        document = {"schema": SCHEMA, "category": scores.category}
        document |= {"protocol": scores.protocol, "run": scores.run, "items": scores.items}
        write_json(temporary / "scores.json", document)


def read(folder: Path) -> Scores:
    """Returns a score folder, its maps memory-mapped; UserError names what is wrong with it."""
    document = read_json(folder / "scores.json")
    protocol, run = stated(document, str(folder / "scores.json"))
    arrays = {}
    for name in ("maps.npy", "masks.npy"):
        try:
            arrays[name] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{folder}/{name} cannot be read: {error}") from error
    scores = Scores(
        category=str(document["category"]),
        maps_NHW=arrays["maps.npy"],
        masks_NHW=arrays["masks.npy"],
        items=list(document["items"]),
        protocol=protocol,
        run=run,
    )
    check(scores, str(folder))
    return scores


def stated(document: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what a scores.json says of the protocol and of its one run; UserError for others."""
    if not isinstance(document, dict) or document.get("schema") not in {1, SCHEMA}:
        raise UserError(f"{where}: expected schema {SCHEMA}, or 1")
    protocol, run = dict(document["protocol"]), dict(document.get("run", {}))
    if document["schema"] == 1:
        run = {k: v for k, v in protocol.items() if k in _RUN_KEYS_OF_SCHEMA_1}
        nested = run.pop("run", None)
        run |= nested if isinstance(nested, dict) else {}
        protocol = {k: v for k, v in protocol.items() if k not in _RUN_KEYS_OF_SCHEMA_1}
    return protocol, run


def check(scores: Scores, where: str) -> None:
    """Raises UserError where maps, masks and items do not fit together or a map is not finite."""
    maps, masks = scores.maps_NHW, scores.masks_NHW
    if maps.ndim != 3 or maps.shape != masks.shape or len(maps) != len(scores.items):
        raise UserError(
            f"{where}: maps {maps.shape}, masks {masks.shape} and {len(scores.items)} items do not"
            " match; expected (N, H, W) twice and N items"
        )
    misplaced = sorted({"run", "seed"} & scores.protocol.keys())
    if misplaced:
        raise UserError(f"{where}: {', '.join(misplaced)} in the protocol: it belongs to the run")
    for item, map_HW in zip(scores.items, maps, strict=True):
        if not np.isfinite(map_HW).all():
            raise UserError(f"{where}: the map of {item['path']} holds NaN or infinite scores")
