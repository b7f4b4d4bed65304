"""Pixel F1-max: the best F1 that any one threshold on the pixels' scores reaches.

Over all test pixels of a category together. As for images, the threshold is the test set's own.
"""

from __future__ import annotations

import numpy.typing as npt

from harness.metrics._pixels import rank_pixels

NEEDS = ("score_maps", "masks")
HIGHER_IS_BETTER = True
VERSION = 1


def compute(score_maps: npt.ArrayLike, masks: npt.ArrayLike) -> float:
    """Returns F1-max of pixels, 0..1, for maps and masks (N, H, W)."""
    return rank_pixels(score_maps, masks).f1_max()
