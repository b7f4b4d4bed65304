"""Nearest neighbours of feature sets, in blocks: no matrix of all distances to all is kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sia_gen.core.statistics.inputs import Floats

BLOCK = 512


def distances(x: Floats, y: Floats) -> Floats:
    """Returns the Euclidean distances of features (N, D) and (M, D): (N, M)."""
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None] - 2.0 * (x @ y.T)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def nearest(x: Floats, y: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Returns each x's distance to its nearest y, and which one that is: (N,), (N,)."""
    far, which = np.empty(len(x)), np.empty(len(x), dtype=np.intp)
    for start in range(0, len(x), BLOCK):
        block = distances(x[start : start + BLOCK], y)
        which[start : start + BLOCK] = block.argmin(axis=1)
        far[start : start + BLOCK] = block.min(axis=1)
    # The expansion above rounds: exact copies must come out at exactly 0.
    for i in np.flatnonzero(far < 1e-3 * (1.0 + np.sqrt((x * x).sum(axis=1)))):
        far[i] = float(np.sqrt(((x[i] - y[which[i]]) ** 2).sum()))
    return far, which


def radii(y: Floats, k: int) -> Floats:
    """Returns each y's distance to its k-th nearest other y: (M,)."""
    found = np.empty(len(y))
    for start in range(0, len(y), BLOCK):
        block = distances(y[start : start + BLOCK], y)
        rows = np.arange(len(block))
        block[rows, start + rows] = -1.0  # itself comes first, whatever rounding does
        found[start : start + BLOCK] = np.partition(block, k, axis=1)[:, k]
    return found
