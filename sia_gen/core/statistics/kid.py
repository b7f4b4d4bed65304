"""KID's estimate: the unbiased squared MMD of features under the kernel (x.y / D + 1)^3.

Subsets share one product of all features where that is less work than a product for each. The
features are centred first and what the centre adds to a product is kept in float64, so that a
product in float32 costs no digits that KID, a small difference of large sums, would miss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sia_gen.core.statistics.inputs import Array, Floats

BLOCK = 512  # rows and columns of the kernel that are held together
Rows = npt.NDArray[np.integer[Any]]


def unbiased(x: Array, y: Array) -> float:
    """Returns the unbiased estimate over all pairs of features (N, D) and (M, D), N, M >= 2."""
    return float(of_subsets(x, y, np.arange(len(x))[None], np.arange(len(y))[None])[0])


def of_subsets(
    x: Array,
    y: Array,
    rows_x: Rows,
    rows_y: Rows,
    *,
    gamma: float | None = None,
    coef: float = 1.0,
    degree: int = 3,
) -> Floats:
    """Returns the unbiased estimate (S,) of each pair of subsets of features (N, D) and (M, D).

    Subsets are rows, distinct ones: (S, n) and (S, m), n, m >= 2. The kernel is
    (gamma x.y + coef)^degree, gamma 1 / D where None. Products are taken in the features' own type,
    float32 or float64.
    """
    (subsets, n), m = rows_x.shape, rows_y.shape[1]
    gamma = 1.0 / x.shape[1] if gamma is None else gamma
    if (len(x) + len(y)) ** 2 > subsets * (n + m) ** 2:
        a, b = np.arange(n)[None], np.arange(m)[None]
        return np.concatenate([
            of_subsets(x[i], y[j], a, b, gamma=gamma, coef=coef, degree=degree)
            for i, j in zip(rows_x, rows_y, strict=True)
        ])  # fmt: skip
    total = x.sum(axis=0, dtype=np.float64) + y.sum(axis=0, dtype=np.float64)
    centre = total / (len(x) + len(y))
    one, two = (_Side(f, rows, centre, gamma, coef) for f, rows in ((x, rows_x), (y, rows_y)))
    within = _sums(one, one, degree) / (n * (n - 1)) + _sums(two, two, degree) / (m * (m - 1))
    return within - 2.0 * _sums(one, two, degree) / (n * m)


class _Side:
    """Features by their distance to the centre, what it adds to their products, and the subsets."""

    def __init__(
        self, features: Array, rows: Rows, centre: Floats, gamma: float, coef: float
    ) -> None:
        self.gamma, self.features = gamma, np.empty_like(features)
        np.subtract(features, centre, out=self.features, casting="same_kind")
        self.added = gamma * (features @ centre - centre @ centre / 2.0) + coef / 2.0
        self.held = np.zeros((len(rows), len(features)))
        np.put_along_axis(self.held, rows, 1.0, axis=1)


def _sums(left: _Side, right: _Side, degree: int) -> Floats:
    """Returns each subset's sum of kernel values, (S,), without those of a feature with itself."""
    total, same = np.zeros(len(left.held)), left is right
    for i in range(0, len(left.features), BLOCK):
        rows = slice(i, i + BLOCK)
        for j in range(i if same else 0, len(right.features), BLOCK):  # a triangle suffices
            columns = slice(j, j + BLOCK)
            products = left.features[rows] @ right.features[columns].T
            products *= left.gamma
            products = products + left.added[rows, None]  # float64 from here on
            products += right.added[columns]
            kernel = products if degree == 1 else products * products
            for _ in range(degree - 2):
                kernel *= products
            if same and i == j:
                np.fill_diagonal(kernel, 0.0)
            sums = ((left.held[:, rows] @ kernel) * right.held[:, columns]).sum(axis=1)
            total += sums if i == j or not same else 2.0 * sums
    return total
