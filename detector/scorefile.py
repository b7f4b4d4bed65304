"""The score file: what a detector says about a category's test images, for any harness to read.

A folder with three files, all in the order of `items`:

    maps.npy     float32 (N, H, W), finite: the anomaly map, higher is more anomalous
    masks.npy    uint8 (N, H, W): 1 where the ground truth is anomalous, 0 elsewhere
    scores.json  {"schema": 1, "category": "dataset/name", "items": [...], "protocol": {...}}

An item is {"path", "defect", "anomalous", "has_mask", "score_max", "score_avgpool16_max"}. An
anomalous image without mask counts for image metrics and is left out of pixel metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sia_gen.core.errors import UserError
from sia_gen.core.store.archives import read_npy
from sia_gen.core.store.files import new_folder, read_json, write_json

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Score maps of one category: maps_NHW float32, masks_NHW uint8, items, protocol: see above."""

    category: str
    maps_NHW: npt.NDArray[np.float32]
    masks_NHW: npt.NDArray[np.uint8]
    items: list[dict[str, Any]]
    protocol: dict[str, Any]


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
        document |= {"protocol": scores.protocol, "items": scores.items}
        write_json(temporary / "scores.json", document)


def read(folder: Path) -> Scores:
    """Returns a score folder, its maps memory-mapped; UserError names what is wrong with it."""
    document = read_json(folder / "scores.json")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"{folder}/scores.json: expected schema {SCHEMA}")
    arrays = {}
    for name in ("maps.npy", "masks.npy"):
        arrays[name] = read_npy(folder / name, mapped=True)
    try:
        scores = Scores(
            category=str(document["category"]),
            maps_NHW=arrays["maps.npy"],
            masks_NHW=arrays["masks.npy"],
            items=list(document["items"]),
            protocol=dict(document["protocol"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}/scores.json lacks a part, or misstates it: {error!r}") from error
    check(scores, str(folder))
    return scores


def _path(item: Any) -> Any:
    return item.get("path") if isinstance(item, dict) else item


def check(scores: Scores, where: str) -> None:
    """Raises UserError where maps, masks and items do not fit together or a map is not finite."""
    maps, masks = scores.maps_NHW, scores.masks_NHW
    if maps.dtype.kind != "f" or masks.dtype.kind not in "ub":
        raise UserError(f"{where}: maps are {maps.dtype}, masks {masks.dtype}: expected numbers")
    if (
        maps.ndim != 3
        or 0 in maps.shape
        or maps.shape != masks.shape
        or len(maps) != len(scores.items)
    ):
        raise UserError(
            f"{where}: maps {maps.shape}, masks {masks.shape} and {len(scores.items)} items do not"
            " match; expected (N, H, W) twice and N items"
        )
    for item, map_HW in zip(scores.items, maps, strict=True):
        if not np.isfinite(map_HW).all():
            raise UserError(f"{where}: the map of {_path(item)} holds NaN or infinite scores")
