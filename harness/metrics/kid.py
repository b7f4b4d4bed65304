"""KID: the unbiased squared MMD of features under the kernel (x.y / D + 1)^3.

Unbiased whatever the number of images, so it stands beside FID; it can be slightly negative.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics import COMPARISONS, NUMBER, Metric
from sia_gen.core.statistics.inputs import UndefinedMetric, feature_pair
from sia_gen.core.statistics.kid import of_subsets, unbiased

FULL = 2000  # up to this many images in each set every pair is used
SUBSETS = 100
SUBSET_SIZE = 1000


def compute(
    synthetic_features: npt.ArrayLike,
    real_features: npt.ArrayLike,
    *,
    full: int = FULL,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> float:
    """Returns KID of features (N, D) and (M, D): exact over all pairs up to `full` images a set.

    Larger sets are estimated by the mean over seeded subsets, never larger than the smaller set.
    """
    x, y = feature_pair(synthetic_features, real_features, "KID features")
    if min(len(x), len(y)) < 2:
        raise UndefinedMetric("KID needs two images in each set: the value is undefined")
    if max(len(x), len(y)) <= full:
        return unbiased(x, y)
    rng = np.random.default_rng(seed)
    size = min(subset_size, len(x), len(y))
    drawn = [[rng.choice(len(side), size, False) for side in (x, y)] for _ in range(subsets)]
    return float(of_subsets(x, y, *np.stack(drawn, axis=1)).mean())


METRIC = Metric(
    name="kid",
    title="KID",
    short="KID",
    unit=NUMBER,
    higher_is_better=False,
    takes="features",
    of=compute,
    place=20,
    variants=COMPARISONS,
    least=2,
    network="inception",
)
