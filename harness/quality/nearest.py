"""The closest pairs of synthetic and training images, as pictures: would one call them copies?"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sia_gen.core.pixels.images import Array8
from sia_gen.core.statistics.neighbours import nearest

TILE = 144
GAP = 4
PAIRS = 6
TILES = ("synthetic image", "nearest training image", "difference")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic image and its nearest training image, by their places in the two sets."""

    synthetic: int
    train: int
    distance: float


def closest_pairs(
    synthetic: npt.NDArray[Any], train: npt.NDArray[Any], count: int = PAIRS
) -> list[Pair]:
    """Returns the closest pairs by features (N, D) and (T, D), nearest first."""
    if not len(synthetic) or not len(train):
        return []
    far, which = nearest(synthetic.astype(np.float64), train.astype(np.float64))
    order = np.argsort(far, kind="stable")[:count]
    return [Pair(synthetic=int(i), train=int(which[i]), distance=float(far[i])) for i in order]


def _tile(image: Array8) -> Array8:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BICUBIC))


def picture(synthetic: Array8, train: Array8) -> bytes:
    """Returns a JPEG of both images and of their absolute difference, twofold for the eye."""
    gap = np.full((TILE, GAP, 3), 255, dtype=np.uint8)
    first, second = _tile(synthetic), _tile(train)
    apart = np.abs(first.astype(np.int16) - second.astype(np.int16)) * 2
    tiles = [first, gap, second, gap, np.clip(apart, 0, 255).astype(np.uint8)]
    buffer = io.BytesIO()
    joined = np.concatenate(tiles, axis=1)
    Image.fromarray(joined).save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()
