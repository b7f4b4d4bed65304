"""Image average precision: the sum of precision times the step in recall over distinct scores.

Tied images enter together, so that their order in the file does not matter.
"""

from __future__ import annotations

from harness.metrics import SHARE, Metric
from sia_gen.core.statistics import draws
from sia_gen.core.statistics.ranking import Ranking

METRIC = Metric(
    name="image_ap",
    title="Image AP",
    short="I-AP",
    unit=SHARE,
    higher_is_better=True,
    takes="image ranking",
    of=Ranking.average_precision,
    draws=draws.average_precision,
    place=20,
)
compute = METRIC.compute
