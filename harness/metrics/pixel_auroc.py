"""Pixel AUROC: over all test pixels of a category together."""

from __future__ import annotations

from harness.metrics import SHARE, Metric
from sia_gen.core.statistics import draws
from sia_gen.core.statistics.ranking import Ranking

METRIC = Metric(
    name="pixel_auroc",
    title="Pixel AUROC",
    short="P-AUROC",
    unit=SHARE,
    higher_is_better=True,
    takes="pixel ranking",
    of=Ranking.area,
    draws=draws.area,
    place=10,
    chance=0.5,
)
compute = METRIC.compute
