"""Maps of images of any size: overlapping tiles at full resolution, blended without seams.

Memory is that of the image, its map, and a few tiles: no image is ever in the network as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from sia_gen.core.pixels.images import Array8

BATCH = 8  # tiles that pass through the network together

Map = npt.NDArray[np.float32]
Axis = list[tuple[int, npt.NDArray[np.float32]]]


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Returns where tiles begin along an axis: evenly spread, each overlapping its neighbours.

    The first begins half an overlap before the image and the last ends half an overlap beyond it
    (or more, where the image is smaller than a tile), so that the border too lies inside tiles.
    """
    margin = overlap // 2
    reach = length + 2 * margin - side
    if reach <= 0:
        return [-((side - length) // 2)]
    count = -(-reach // (side - overlap)) + 1
    return [round(i * reach / (count - 1)) - margin for i in range(count)]


def weights(length: int, side: int, overlap: int) -> Axis:
    """Returns each tile's start and its weights (side,) along an axis.

    Weights rise over the overlap like a raised cosine; at every pixel of the image they sum to 1.
    """
    ramp = np.ones(side)
    if overlap:
        rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / overlap)
        ramp[:overlap] = rise
        ramp[side - overlap :] = np.minimum(ramp[side - overlap :], rise[::-1])
    first = starts(length, side, overlap)
    total = np.zeros(length)
    for start in first:
        low, high = max(start, 0), min(start + side, length)
        total[low:high] += ramp[low - start : high - start]
    found: Axis = []
    for start in first:
        low, high = max(start, 0), min(start + side, length)
        own = np.zeros(side, dtype=np.float32)
        own[low - start : high - start] = ramp[low - start : high - start] / total[low:high]
        found.append((start, own))
    return found


def mirrored(start: int, side: int, length: int) -> npt.NDArray[np.intp]:
    """Returns the pixel that stands at each place of a tile: beyond the border it is mirrored."""
    place = np.arange(start, start + side) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place).astype(np.intp)


def cut(image_HWC: Array8, top: int, left: int, side: int) -> Array8:
    """Returns a tile (side, side, ...) of an image, mirrored where it reaches beyond it."""
    height, width = image_HWC.shape[:2]
    if 0 <= top <= height - side and 0 <= left <= width - side:
        return image_HWC[top : top + side, left : left + side]
    rows, columns = mirrored(top, side, height), mirrored(left, side, width)
    return image_HWC[rows[:, None], columns]


def _placed(rows: Axis, columns: Axis) -> Iterator[tuple[int, int]]:
    for y in range(len(rows)):
        for x in range(len(columns)):
            yield y, x


def tiled_map(
    image_HW3: Array8, side: int, overlap: int, maps: Callable[[Array8], Map], batch: int = BATCH
) -> Map:
    """Returns the blended map float32 (H, W) of a uint8 image.

    `maps` gives the maps (N, side, side) of tiles (N, side, side, 3).
    """
    height, width = image_HW3.shape[:2]
    rows, columns = weights(height, side, overlap), weights(width, side, overlap)
    places = list(_placed(rows, columns))
    result = np.zeros((height, width), dtype=np.float32)
    for first in range(0, len(places), batch):
        part = places[first : first + batch]
        tiles = np.stack([cut(image_HW3, rows[y][0], columns[x][0], side) for y, x in part])
        for (y, x), tile_map in zip(part, maps(tiles), strict=True):
            (top, down), (left, across) = rows[y], columns[x]
            low, high = max(top, 0), min(top + side, height)
            near, far = max(left, 0), min(left + side, width)
            inside = (slice(low - top, high - top), slice(near - left, far - left))
            weight = down[inside[0], None] * across[inside[1]]
            result[low:high, near:far] += tile_map[inside] * weight
    return result
