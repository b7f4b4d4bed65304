"""Image F1-max: the best F1 that any one threshold on the image scores reaches.

The threshold is chosen on the test set itself, so the value is an upper bound of what any rule for
a threshold could give, and is to be read as one.
"""

from __future__ import annotations

from harness.metrics import SHARE, Metric
from sia_gen.core.statistics import draws
from sia_gen.core.statistics.ranking import Ranking

METRIC = Metric(
    name="image_f1max",
    title="Image F1",
    short="I-F1",
    unit=SHARE,
    higher_is_better=True,
    takes="image ranking",
    of=Ranking.f1_max,
    draws=draws.f1_max,
    place=30,
    detail="at best",
)
compute = METRIC.compute
