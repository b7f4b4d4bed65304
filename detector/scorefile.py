"""The score file: what a detector says about a category's test images, for any harness to read.

A folder with three files, all in the order of `items`:

    maps.npy     float32 (N, H, W), finite: the anomaly map, higher is more anomalous
    masks.npy    uint8 (N, H, W): 1 where the ground truth is anomalous, 0 elsewhere
    scores.json  {"schema": 1, "category": "dataset/name", "items": [...], "protocol": {...}}

An item is {"path", "defect", "anomalous", "has_mask", "score_max", "score_avgpool16_max"}. An
anomalous image without mask counts for image metrics and is left out of pixel metrics.

Where images differ in size, and their maps with them, both arrays are flat: one map after the
other, row by row, and every item has its "size", [H, W].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sia_gen.core.errors import UserError
from sia_gen.core.store.files import new_folder, read_json, write_json

SCHEMA = 1


Size = tuple[int, int]


class Ragged:
    """Maps of unlike sizes in one flat array: item i is (H_i, W_i), and so is each while iterated.

    A slice, or an array of places or of booleans, gives fewer of them; nothing is copied.
    """

    ndim = 3

    def __init__(
        self, flat: npt.NDArray[Any], sizes: Sequence[Size], starts: Sequence[int] | None = None
    ) -> None:
        self.flat, self.sizes = flat, [(int(h), int(w)) for h, w in sizes]
        ends = np.cumsum([h * w for h, w in self.sizes])
        self._starts = [0, *ends[:-1].tolist()] if starts is None else list(starts)
        if starts is None and flat.shape != (int(ends[-1]) if len(ends) else 0,):
            raise UserError(f"{flat.shape} values do not fill maps of {len(self.sizes)} sizes")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | np.integer):
            start, (height, width) = self._starts[which], self.sizes[which]
            return self.flat[start : start + height * width].reshape(height, width)
        places = np.arange(len(self))[which]
        sizes, starts = [self.sizes[i] for i in places], [self._starts[i] for i in places]
        return Ragged(self.flat, sizes, starts)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    @property
    def size(self) -> int:
        """The pixels of all maps."""
        return sum(h * w for h, w in self.sizes)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The number of maps and their sizes: equal where two have the same maps."""
        return len(self), *self.sizes


Stack = npt.NDArray[Any] | Ragged


def stacked(arrays: Sequence[npt.NDArray[Any]]) -> Stack:
    """Returns arrays (H, W) as one (N, H, W), or as maps of unlike sizes."""
    if len({a.shape for a in arrays}) == 1:
        return np.stack(arrays)
    flat = np.concatenate([a.ravel() for a in arrays])
    return Ragged(flat, [(a.shape[0], a.shape[1]) for a in arrays])


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Score maps of one category: maps_NHW float32, masks_NHW uint8, items, protocol: see above."""

    category: str
    maps_NHW: Any  # Stack: an array, or maps of unlike sizes
    masks_NHW: Any
    items: list[dict[str, Any]]
    protocol: dict[str, Any]


STRIP = 1 << 22  # pixels of a map that are averaged together; larger ones go in strips


def image_scores(map_HW: npt.NDArray[np.float32]) -> dict[str, float]:
    """Returns an image's scores: the map's maximum, and that of its 16 x 16 window means."""
    window = min(16, *map_HW.shape)
    if map_HW.size <= STRIP:
        return {"score_max": float(map_HW.max()), "score_avgpool16_max": _highest(map_HW, window)}
    rows = max(window, STRIP // map_HW.shape[1])
    tops = range(0, len(map_HW) - window + 1, rows)
    highest = max(_highest(map_HW[top : top + rows + window - 1], window) for top in tops)
    return {"score_max": float(map_HW.max()), "score_avgpool16_max": highest}


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
        add.protocol = scores.protocol


class Adder:
    """Takes one image's item, map and mask after the other; `protocol` is set at any time."""

    def __init__(self, maps: Stack, masks: Stack) -> None:
        self.maps, self.masks = maps, masks
        self.items: list[dict[str, Any]] = []
        self.protocol: dict[str, Any] = {}

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
        document |= {"protocol": adder.protocol, "items": adder.items}
        adder.maps = adder.masks = np.empty(0)  # closes the files
        write_json(temporary / "scores.json", document)


def read(folder: Path) -> Scores:
    """Returns a score folder, its maps memory-mapped; UserError names what is wrong with it."""
    document = read_json(folder / "scores.json")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"{folder}/scores.json: expected schema {SCHEMA}")
    arrays = {}
    for name in ("maps.npy", "masks.npy"):
        try:
            arrays[name] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{folder}/{name} cannot be read: {error}") from error
    items = list(document["items"])
    stacks: dict[str, Stack] = dict(arrays)
    if items and all(isinstance(i, dict) and "size" in i for i in items):
        try:
            sizes = [(int(i["size"][0]), int(i["size"][1])) for i in items]
            stacks = {name: Ragged(array, sizes) for name, array in arrays.items()}
        except (UserError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{folder}: the items' sizes do not fit its arrays: {error}") from error
    scores = Scores(
        category=str(document["category"]),
        maps_NHW=stacks["maps.npy"],
        masks_NHW=stacks["masks.npy"],
        items=items,
        protocol=dict(document["protocol"]),
    )
    check(scores, str(folder))
    return scores


def check(scores: Scores, where: str) -> None:
    """Raises UserError where maps, masks and items do not fit together or a map is not finite."""
    maps, masks = scores.maps_NHW, scores.masks_NHW
    if maps.ndim != 3 or maps.shape != masks.shape or len(maps) != len(scores.items):
        raise UserError(
            f"{where}: maps {maps.shape}, masks {masks.shape} and {len(scores.items)} items do not"
            " match; expected (N, H, W) twice and N items"
        )
    for item, map_HW in zip(scores.items, maps, strict=True):
        if not np.isfinite(map_HW).all():
            raise UserError(f"{where}: the map of {item['path']} holds NaN or infinite scores")
