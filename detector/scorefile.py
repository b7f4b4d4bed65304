"""The score file: what a detector says about a category's test images, for any harness to read.

A folder with three files, all in the order of `items`:

    maps.npy     float32 (N, H, W), finite: the anomaly map, higher is more anomalous
    masks.npy    uint8 (N, H, W): 1 where the ground truth is anomalous, 0 elsewhere
    scores.json  {"schema": 2, "category": "dataset/name", "items": [...], "protocol": {...},
                  "run": {...}}

`protocol` holds all that must agree before two results may share a row of a leaderboard; `run`
holds what belongs to this one result: its seed, checkpoint, times. Files of schema 1 have no `run`:
what they say about it among the protocol's keys is told apart when they are read.

An item is {"path", "defect", "anomalous", "has_mask", "score_max", "score_avgpool16_max"}, with
"score_own" where a detector decides by another rule. An anomalous image without mask counts for
image metrics and is left out of pixel metrics.

Where images differ in size, and their maps with them, both arrays are flat: one map after the
other, row by row, and every item has its "size", [H, W].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from detector.words import IMAGE_SCORES
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.ragged import Ragged, Size, Stack
from sia_gen.core.store.archives import read_npy
from sia_gen.core.store.files import new_folder, read_json, write_json

__all__ = ["IMAGE_SCORES", "Scores", "check", "image_scores", "read", "stated", "write", "writer"]

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
    maps_NHW: Any  # Stack: an array, or maps of unlike sizes
    masks_NHW: Any
    items: list[dict[str, Any]]
    protocol: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)


STRIP = 1 << 22  # pixels of a map that are averaged together; larger ones go in strips


def image_scores(map_HW: npt.NDArray[np.float32]) -> dict[str, float]:
    """Returns an image's scores by name: the map's maximum, that of its 16 x 16 window means, and
    the mean of its highest hundredth."""
    few = max(1, map_HW.size // 100)
    top = np.partition(map_HW, map_HW.size - few, axis=None)[-few:]
    window = min(16, *map_HW.shape)
    if map_HW.size <= STRIP:
        highest = _highest(map_HW, window)
    else:
        rows = max(window, STRIP // map_HW.shape[1])
        tops = range(0, len(map_HW) - window + 1, rows)
        highest = max(_highest(map_HW[first : first + rows + window - 1], window) for first in tops)
    return {
        "score_max": float(map_HW.max()),
        "score_avgpool16_max": highest,
        "score_top1_mean": float(top.mean(dtype=np.float64)),
    }


def _highest(map_HW: npt.NDArray[np.float32], window: int) -> float:
    """Returns the highest mean of the windows that lie wholly inside."""
    means = ndimage.uniform_filter(map_HW.astype(np.float64), window, mode="constant")
    # Only windows wholly inside count; uniform_filter centres window i at i + window // 2.
    first = window // 2
    height, width = map_HW.shape
    inner = means[first : first + height - window + 1, first : first + width - window + 1]
    return float(inner.max())


def write(folder: Path, scores: Scores) -> None:
    """Publishes a score folder in one step; refuses maps that are not finite or do not match."""
    check(scores, str(folder))
    sizes = [map_HW.shape for map_HW in scores.maps_NHW]
    with writer(folder, scores.category, sizes) as add:
        for item, map_HW, mask_HW in zip(
            scores.items, scores.maps_NHW, scores.masks_NHW, strict=True
        ):
            add(item, map_HW, mask_HW)
        add.protocol, add.run = scores.protocol, scores.run


class Adder:
    """Takes one image's item, map and mask after the other; `protocol` and `run` are
    set at any time."""

    def __init__(self, maps: Stack, masks: Stack) -> None:
        self.maps, self.masks = maps, masks
        self.items: list[dict[str, Any]] = []
        self.protocol: dict[str, Any] = {}
        self.run: dict[str, Any] = {}

    def __call__(
        self, item: dict[str, Any], map_HW: npt.NDArray[Any], mask_HW: npt.NDArray[Any]
    ) -> None:
        """Writes an image's map and mask; UserError for a map that is not finite."""
        place = len(self.items)
        if not np.isfinite(map_HW).all():
            raise UserError(f"the map of {item['path']} holds NaN or infinite scores")
        self.maps[place][...] = map_HW
        self.masks[place][...] = mask_HW
        ragged = isinstance(self.maps, Ragged)
        self.items.append({**item, **({"size": list(map_HW.shape)} if ragged else {})})


@contextmanager
def writer(folder: Path, category: str, sizes: Sequence[Size]) -> Iterator[Adder]:
    """Yields what takes maps of these sizes one by one; publishes the folder when all are there.

    No more than one map need be in memory.
    """
    uniform = len(set(sizes)) == 1
    shape = (len(sizes), *sizes[0]) if uniform else (sum(h * w for h, w in sizes),)
    with new_folder(folder) as temporary:
        opened: list[Stack] = []
        for name, kind in (("maps.npy", np.float32), ("masks.npy", np.uint8)):
            array = np.lib.format.open_memmap(temporary / name, "w+", dtype=kind, shape=shape)
            opened.append(array if uniform else Ragged(array, sizes))
        adder = Adder(*opened)
        yield adder
        if len(adder.items) != len(sizes):
            raise UserError(f"{folder}: {len(adder.items)} maps were given of {len(sizes)}")
        del opened, array
        document = {"schema": SCHEMA, "category": category}
        document |= {"protocol": adder.protocol, "run": adder.run, "items": adder.items}
        adder.maps = adder.masks = np.empty(0)  # closes the files
        write_json(temporary / "scores.json", document)


def read(folder: Path) -> Scores:
    """Returns a score folder, its maps memory-mapped; UserError names what is wrong with it."""
    document = read_json(folder / "scores.json")
    protocol, run = stated(document, str(folder / "scores.json"))
    arrays = {}
    for name in ("maps.npy", "masks.npy"):
        arrays[name] = read_npy(folder / name, mapped=True)
    try:
        items = list(document["items"])
        stacks: dict[str, Stack] = dict(arrays)
        if items and all(isinstance(i, dict) and "size" in i for i in items):
            sizes = [(int(i["size"][0]), int(i["size"][1])) for i in items]
            stacks = {name: Ragged(array, sizes) for name, array in arrays.items()}
        scores = Scores(
            category=str(document["category"]),
            maps_NHW=stacks["maps.npy"],
            masks_NHW=stacks["masks.npy"],
            items=items,
            protocol=protocol,
            run=run,
        )
    except (KeyError, TypeError, ValueError, IndexError, UserError) as error:
        raise UserError(f"{folder}/scores.json lacks a part, or misstates it: {error!r}") from error
    check(scores, str(folder))
    return scores


def stated(document: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what a scores.json says of the protocol and of its one run; UserError for others."""
    if not isinstance(document, dict) or document.get("schema") not in {1, SCHEMA}:
        raise UserError(f"{where}: expected schema {SCHEMA}, or 1")
    try:
        protocol, run = dict(document["protocol"]), dict(document.get("run", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} lacks a part, or misstates it: {error!r}") from error
    if document["schema"] == 1:
        run = {k: v for k, v in protocol.items() if k in _RUN_KEYS_OF_SCHEMA_1}
        nested = run.pop("run", None)
        run |= nested if isinstance(nested, dict) else {}
        protocol = {k: v for k, v in protocol.items() if k not in _RUN_KEYS_OF_SCHEMA_1}
    return protocol, run


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
    misplaced = sorted({"run", "seed"} & scores.protocol.keys())
    if misplaced:
        raise UserError(f"{where}: {', '.join(misplaced)} in the protocol: it belongs to the run")
    for item, map_HW in zip(scores.items, maps, strict=True):
        if not np.isfinite(map_HW).all():
            raise UserError(f"{where}: the map of {_path(item)} holds NaN or infinite scores")
