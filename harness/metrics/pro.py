"""PRO, per-region overlap (MVTec's definition): how much of each defect is found, at low cost.

For thresholds from high to low: the mean over all 8-connected ground-truth regions of the share
covered, against the false-positive rate over all normal pixels; the area under that curve up to
the limit, divided by the limit. Computed from one sort, without a grid of thresholds.
"""

from __future__ import annotations

import numpy.typing as npt

from harness.metrics._pixels import rank_pixels

NEEDS = ("score_maps", "masks")
HIGHER_IS_BETTER = True
VERSION = 1


def compute(score_maps: npt.ArrayLike, masks: npt.ArrayLike, limit: float = 0.3) -> float:
    """Returns PRO up to false-positive rate `limit`, 0..1, for maps and masks (N, H, W).

    Laws: a perfect map scores 1, also with holes in regions; strictly increasing maps of the
    scores change nothing; two defects weigh the same whatever their area.
    """
    return rank_pixels(score_maps, masks, by_region=True).area(limit)
