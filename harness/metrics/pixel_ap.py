"""Pixel average precision: over all test pixels of a category together."""

from __future__ import annotations

from harness.metrics import SHARE, Metric
from sia_gen.core.statistics import draws
from sia_gen.core.statistics.ranking import Ranking

METRIC = Metric(
    name="pixel_ap",
    title="Pixel AP",
    short="P-AP",
    unit=SHARE,
    higher_is_better=True,
    takes="pixel ranking",
    of=Ranking.average_precision,
    draws=draws.average_precision,
    place=20,
)
compute = METRIC.compute
