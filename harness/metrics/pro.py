"""PRO, per-region overlap (MVTec's definition): how much of each defect is found, at low cost.

For thresholds from high to low: the mean over all 8-connected ground-truth regions of the share
covered, against the false-positive rate over all normal pixels; the area under that curve up to
the limit, divided by the limit. Computed from one sort, without a grid of thresholds.

Laws: a perfect map scores 1, also with holes in regions; strictly increasing maps of the scores
change nothing; two defects weigh the same whatever their area.
"""

from __future__ import annotations

import numpy.typing as npt

from harness.metrics import SHARE, Metric, Variant
from sia_gen.core.statistics import draws
from sia_gen.core.statistics.ranking import Ranking


def area(ranking: Ranking, limit: float = 0.3) -> float:
    """Returns PRO up to false-positive rate `limit`, 0..1."""
    return ranking.area(limit)


METRIC = Metric(
    name="pro",
    title="PRO",
    short="PRO",
    unit=SHARE,
    higher_is_better=True,
    takes="region ranking",
    of=area,
    draws=draws.area,
    variants=(
        Variant(suffix="_0.3", short="@.3", detail="to FPR 0.3", arguments={"limit": 0.3}),
        Variant(suffix="_0.05", short="@.05", detail="to FPR 0.05", arguments={"limit": 0.05}),
    ),
    place=40,
)


def compute(score_maps: npt.ArrayLike, masks: npt.ArrayLike, limit: float = 0.3) -> float:
    """Returns PRO up to false-positive rate `limit`, 0..1, for maps and masks (N, H, W)."""
    return METRIC.compute(score_maps, masks, limit=limit)
