"""Coverage (Naeem et al., 2020): how many real images have a synthetic one in their neighbourhood.

The share of real images whose ball, reaching to their k-th nearest other real image, holds at
least one synthetic image: 1 where every kind of real image is met, 0 where none is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics import NUMBER, TO_ANOMALIES, Metric
from harness.metrics.density import K, prepared
from sia_gen.core.statistics.neighbours import BLOCK, distances


def compute(
    synthetic_features: npt.ArrayLike, real_features: npt.ArrayLike, *, k: int = K
) -> float:
    """Returns coverage of features (M, D) by (N, D), 0..1."""
    x, y, reach = prepared(synthetic_features, real_features, k)
    met = np.zeros(len(y), dtype=bool)
    for start in range(0, len(x), BLOCK):
        met |= (distances(x[start : start + BLOCK], y) <= reach).any(axis=0)
    return float(met.mean())


METRIC = Metric(
    name="coverage",
    title="Coverage",
    short="cover",
    unit=NUMBER,
    higher_is_better=True,
    takes="features",
    of=compute,
    place=40,
    variants=TO_ANOMALIES,
    detail="of real anomalies",
)
