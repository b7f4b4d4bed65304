"""KID: the unbiased squared MMD of features under the kernel (x.y / D + 1)^3.

Unbiased whatever the number of images, so it stands beside FID; it can be slightly negative.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics._inputs import Floats, UndefinedMetric, feature_pair

NEEDS = ("synthetic_features", "real_features")
HIGHER_IS_BETTER = False
VERSION = 1
FULL = 2000  # up to this many images in each set every pair is used
SUBSETS = 100
SUBSET_SIZE = 1000


def _kernel(x: Floats, y: Floats) -> Floats:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def unbiased(x: Floats, y: Floats) -> float:
    """Returns the unbiased estimate over all pairs of features (N, D) and (M, D)."""
    n, m = len(x), len(y)
    within_x, within_y = _kernel(x, x), _kernel(y, y)
    first = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    second = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(first + second - 2.0 * _kernel(x, y).mean())


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
    estimates = [
        unbiased(x[rng.choice(len(x), size, False)], y[rng.choice(len(y), size, False)])
        for _ in range(subsets)
    ]
    return float(np.mean(estimates))
