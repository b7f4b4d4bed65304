"""Pixel AUROC: over all test pixels of a category together."""

from __future__ import annotations

import numpy.typing as npt

from harness.metrics._pixels import rank_pixels

NEEDS = ("score_maps", "masks")
HIGHER_IS_BETTER = True
VERSION = 1


def compute(score_maps: npt.ArrayLike, masks: npt.ArrayLike) -> float:
    """Returns the area under the ROC curve of pixels, 0..1, for maps and masks (N, H, W)."""
    return rank_pixels(score_maps, masks).area()
