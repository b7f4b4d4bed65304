"""Image AUROC: the chance that an anomalous image scores above a normal one, ties counting half.

A detector worse than chance stays below 0.5 (the RealNet authors' code flips it).
"""

from __future__ import annotations

from harness.metrics import SHARE, Metric
from sia_gen.core.statistics import draws
from sia_gen.core.statistics.ranking import Ranking

METRIC = Metric(
    name="image_auroc",
    title="Image AUROC",
    short="I-AUROC",
    unit=SHARE,
    higher_is_better=True,
    takes="image ranking",
    of=Ranking.area,
    draws=draws.area,
    place=10,
    chance=0.5,
)
compute = METRIC.compute
