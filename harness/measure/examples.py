"""Example pictures of a score folder: what was found, missed and wrongly reported.

Each picture is a strip of three tiles: the test image, its mask, its score map over the image.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from detector.scorefile import Scores
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask, read_image
from sia_gen.core.pixels.ranges import checked
from sia_gen.core.statistics.ragged import Ragged, Stack
from sia_gen.core.store.files import is_there
from sia_gen.core.store.paths import inside

TILE = 144
GAP = 4
TILES = ("image", "mask", "score map")
OUTLINE = (0, 190, 255)
# Dark violet over red to pale yellow: brightness rises with the score, also in gray print.
_STOPS = np.array(
    [[8, 6, 30], [66, 12, 94], [136, 28, 92], [201, 52, 60], [240, 110, 26], [250, 190, 50],
     [252, 250, 190]], dtype=np.float64)  # fmt: skip


def colours(values_HW: npt.NDArray[np.float64]) -> Array8:
    """Returns values in 0..1 as uint8 colours (H, W, 3); brighter is more anomalous."""
    at = np.clip(values_HW, 0.0, 1.0) * (len(_STOPS) - 1)
    channels = [np.interp(at, np.arange(len(_STOPS)), _STOPS[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def colour_range(maps_NHW: Stack) -> tuple[float, float]:
    """Returns the scores drawn darkest and brightest, one range for all images of a category."""
    step = max(1, maps_NHW.size // 1_000_000)
    flat = maps_NHW.flat if isinstance(maps_NHW, Ragged) else np.asarray(maps_NHW).reshape(-1)
    sample = flat[::step].astype(np.float64)
    # The top half percent is drawn alike, so that one extreme image does not darken all others.
    low, high = (float(q) for q in np.quantile(sample, [0.5, 0.995]))
    return low, high if high > low else low + 1.0


def _tile(image: Array8, method: Image.Resampling) -> Array8:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), method))


def _image_tile(image: Array8 | None, truth: Mask) -> Array8:
    if image is None:
        return np.full((TILE, TILE, 3), 128, dtype=np.uint8)
    smooth = Image.Resampling.LANCZOS if image.shape[0] > TILE else Image.Resampling.BICUBIC
    tile = _tile(image, smooth).copy()
    large = _tile(truth.astype(np.uint8) * 255, Image.Resampling.NEAREST) > 127
    edge = large ^ ndimage.binary_dilation(large, iterations=1)
    tile[edge] = OUTLINE
    return tile


def strip(
    image: Array8 | None, mask: Mask, map_HW: npt.NDArray[Any], span: tuple[float, float]
) -> bytes:
    """Returns a JPEG of image (defect outlined), mask and score map side by side."""
    return strip_of(image, mask, [(map_HW, span)])


def _heat_tile(image: Array8 | None, map_HW: npt.NDArray[Any], span: tuple[float, float]) -> Array8:
    values = (map_HW.astype(np.float64) - span[0]) / (span[1] - span[0])
    heat = _tile(colours(values), Image.Resampling.BICUBIC).astype(np.float64)
    under = _image_tile(image, np.zeros(map_HW.shape, dtype=bool)).mean(axis=-1, keepdims=True)
    return np.rint(0.68 * heat + 0.32 * under).astype(np.uint8)


def strip_of(
    image: Array8 | None, mask: Mask, maps: list[tuple[npt.NDArray[Any], tuple[float, float]]]
) -> bytes:
    """Returns a JPEG of image (defect outlined), mask and (score map, colour range) pairs.

    An image that cannot be shown is a gray tile; score maps are laid over what image there is.
    """
    truth = np.repeat(mask.astype(np.uint8)[..., None] * 255, 3, axis=-1)
    tiles = [_image_tile(image, mask), _tile(truth, Image.Resampling.NEAREST)]
    tiles += [_heat_tile(image, map_HW, span) for map_HW, span in maps]
    gap = np.full((TILE, GAP, 3), 255, dtype=np.uint8)
    joined = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(joined).save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def choose(scores: npt.NDArray[np.float64], anomalous: Mask, each: int) -> list[tuple[int, str]]:
    """Returns (index, outcome) of the best and the worst images, up to `each` of an outcome.

    found: the anomalous images that score highest; missed: lowest; false alarm: the normal images
    that score highest; quiet: lowest (of these two, half as many). Ties fall by index, so the
    choice is repeatable.
    """
    chosen: list[tuple[int, str]] = []
    half = (each + 1) // 2
    for wanted, high, low, count in (
        (True, "found", "missed", each),
        (False, "false alarm", "quiet", half),
    ):
        order = [int(i) for i in np.argsort(scores, kind="stable") if anomalous[i] == wanted]
        top = order[::-1][:count]
        chosen += [(i, high) for i in top]
        chosen += [(i, low) for i in order[:count] if i not in top]
    return chosen


def find_image(path: str, roots: list[Path]) -> Path | None:
    """Returns the file an item's path names, itself or below one of the roots; None if absent."""
    if Path(path).is_absolute():
        return Path(path) if is_there(path) and Path(path).is_file() else None
    for root in roots:
        try:
            candidate = inside(root, path, "an item of a score file")
            if candidate.is_file():
                return candidate
        except (UserError, OSError):
            continue
    return None


def render(scores: Scores, values: npt.NDArray[np.float64], roots: list[Path], each: int) -> Any:
    """Returns ([(facts, JPEG)], notes) for the best and worst images of a score folder."""
    span = colour_range(scores.maps_NHW)
    anomalous = np.array([bool(item["anomalous"]) for item in scores.items])
    pictures: list[tuple[dict[str, Any], bytes]] = []
    notes: list[str] = []
    value_range = checked(scores.run.get("value_range"))
    for index, outcome in choose(values, anomalous, each):
        item = scores.items[index]
        file = find_image(str(item["path"]), roots)
        image: Array8 | None = None
        if file is None:
            notes.append("some example images were not found and are shown as gray: give --data")
        else:
            try:
                image = read_image(file, value_range=value_range)
            except UserError as error:
                notes.append(f"an example image cannot be shown: {error}")
        mask = np.asarray(scores.masks_NHW[index]) > 0
        jpeg = strip(image, mask, np.asarray(scores.maps_NHW[index]), span)
        facts = {
            "path": str(item["path"]),
            "defect": str(item["defect"]),
            "score": float(values[index]),
            "outcome": outcome,
            "tiles": list(TILES),
        }
        pictures.append((facts, jpeg))
    return pictures, list(dict.fromkeys(notes))
