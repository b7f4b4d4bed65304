"""Pixel F1-max: the best F1 that any one threshold on the pixels' scores reaches.

Over all test pixels of a category together. As for images, the threshold is the test set's own.
"""

from __future__ import annotations

from harness.metrics import SHARE, Metric
from sia_gen.core.statistics import draws
from sia_gen.core.statistics.ranking import Ranking

METRIC = Metric(
    name="pixel_f1max",
    title="Pixel F1",
    short="P-F1",
    unit=SHARE,
    higher_is_better=True,
    takes="pixel ranking",
    of=Ranking.f1_max,
    draws=draws.f1_max,
    place=30,
    detail="at best",
)
compute = METRIC.compute
