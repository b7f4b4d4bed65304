"""PRO as the RealNet authors' code computes it, to explain differences; never to rank by.

It differs from PRO in four ways: 1000 equally spaced thresholds from the lowest score to the
highest, regions counted with their holes filled but divided by the area without (a ring can score
1.55), false-positive rates rescaled by the last one below 0.3, and no interpolated end point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics import SHARE, Metric
from sia_gen.core.statistics.inputs import Array, Floats, UndefinedMetric
from sia_gen.core.statistics.pixels import EIGHT_NEIGHBOURS, images

STEPS = 1000
LIMIT = 0.3


def of_maps(maps: Array, truth: Array) -> float:
    """Returns the authors' approximate PRO for maps and masks (N, H, W); it can exceed 1."""
    from scipy import ndimage

    low = min(float(m.min()) for m, _ in images(maps, truth))
    high = max(float(m.max()) for m, _ in images(maps, truth))
    if low == high:
        raise UndefinedMetric("all scores are equal: the legacy PRO has no thresholds")
    thresholds = low + np.arange(1, STEPS + 1) * ((high - low) / STEPS)
    covered, regions = np.zeros(len(thresholds)), 0
    false, normal = np.zeros(len(thresholds)), 0

    def passing(scores: npt.NDArray[np.floating]) -> Floats:
        below = np.searchsorted(np.sort(scores), thresholds, side="right")
        return (len(scores) - below).astype(np.float64)

    for map_HW, mask_HW in images(maps, truth):
        false += passing(map_HW[~mask_HW])
        normal += int((~mask_HW).sum())
        labels, found = ndimage.label(mask_HW, EIGHT_NEIGHBOURS)
        for label in range(1, found + 1):
            region = labels == label
            covered += passing(map_HW[ndimage.binary_fill_holes(region, EIGHT_NEIGHBOURS)]) / (
                region.sum()
            )
        regions += found
    if not regions or not normal:
        raise UndefinedMetric("PRO needs defect pixels and normal pixels: the value is undefined")
    rates, overlaps = false / normal, covered / regions
    below = rates < LIMIT
    rates, overlaps = rates[below], overlaps[below]
    if len(rates) < 2 or rates.max() == rates.min():
        raise UndefinedMetric(f"no two thresholds have false-positive rates below {LIMIT}")
    rates = (rates - rates.min()) / (rates.max() - rates.min())
    # The rates fall along the thresholds: trapezoids from right to left.
    return float(((overlaps[1:] + overlaps[:-1]) * -np.diff(rates)).sum() / 2.0)


METRIC = Metric(
    name="pro_legacy_realnet",
    title="PRO (RealNet's code)",
    short="PRO/legacy",
    unit=SHARE,
    higher_is_better=True,
    takes="score maps",
    of=of_maps,
    variants=(),
)
compute = METRIC.compute
