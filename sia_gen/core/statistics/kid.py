"""KID's estimate: the unbiased squared MMD of features under the kernel (x.y / D + 1)^3."""

from __future__ import annotations

import numpy as np

from sia_gen.core.statistics.inputs import Floats


def _kernel(x: Floats, y: Floats) -> Floats:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def unbiased(x: Floats, y: Floats) -> float:
    """Returns the unbiased estimate over all pairs of features (N, D) and (M, D), N, M >= 2."""
    n, m = len(x), len(y)
    within_x, within_y = _kernel(x, x), _kernel(y, y)
    first = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    second = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(first + second - 2.0 * _kernel(x, y).mean())
