"""Density (Naeem et al., 2020): in how many real images' neighbourhoods a synthetic image lies.

A real image's neighbourhood is the ball that reaches to its k-th nearest other real image. The
mean over synthetic images of the balls they lie in, divided by k: 1 for two sets of one
distribution, above 1 where synthetic images crowd where real ones do. One outlier cannot raise it
much, unlike precision.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics import NUMBER, TO_ANOMALIES, Metric
from sia_gen.core.statistics.inputs import Floats, UndefinedMetric, feature_pair
from sia_gen.core.statistics.neighbours import BLOCK, distances, radii

K = 5


def prepared(
    synthetic_features: npt.ArrayLike, real_features: npt.ArrayLike, k: int
) -> tuple[Floats, Floats, Floats]:
    """Returns both sets as float64 and the real images' radii; UndefinedMetric where too few."""
    x, y = feature_pair(synthetic_features, real_features, "density and coverage features")
    if not len(x) or len(y) <= k:
        raise UndefinedMetric(
            f"density and coverage need a synthetic and {k + 1} real images, found {len(x)} and"
            f" {len(y)}: undefined"
        )
    return x, y, radii(y, k)


def compute(
    synthetic_features: npt.ArrayLike, real_features: npt.ArrayLike, *, k: int = K
) -> float:
    """Returns density of features (N, D) around (M, D), >= 0."""
    x, y, reach = prepared(synthetic_features, real_features, k)
    inside = sum(
        int(np.count_nonzero(distances(x[start : start + BLOCK], y) <= reach))
        for start in range(0, len(x), BLOCK)
    )
    return inside / (k * len(x))


METRIC = Metric(
    name="density",
    title="Density",
    short="density",
    unit=NUMBER,
    higher_is_better=True,
    takes="features",
    of=compute,
    place=30,
    variants=TO_ANOMALIES,
    detail="around real anomalies",
)
