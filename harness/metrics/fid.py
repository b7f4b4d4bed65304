"""FID, the Fréchet distance between two sets of features taken as Gaussians.

|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). With fewer images than feature dimensions the
covariances are singular and FID is far from 0 even for one distribution: it says something only
beside another FID of the same numbers of images, so whoever shows it shows the numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics import COMPARISONS, DISTANCE, Metric
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import Floats, UndefinedMetric, feature_pair, real

WELL_SPREAD = 1e-12  # smallest over largest eigenvalue from which squaring loses too many digits


class Moments:
    """Number, mean (D,) and scatter (D, D) of features: streaming and mergeable, float64."""

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self.mean = np.zeros(dimensions)
        self.scatter = np.zeros((dimensions, dimensions))

    def update(self, features: npt.ArrayLike) -> None:
        """Counts one block of features (N, D)."""
        block = real(features, "features").astype(np.float64)
        if block.ndim != 2 or block.shape[1] != len(self.mean):
            raise UserError(f"features {block.shape}: expected (N, {len(self.mean)})")
        if len(block):
            mean = block.mean(axis=0)
            centred = block - mean
            self._add(len(block), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Adds what another instance has counted."""
        self._add(other.count, other.mean, other.scatter)

    def _add(self, count: int, mean: Floats, scatter: Floats) -> None:
        total = self.count + count
        if count:
            gap = mean - self.mean
            self.scatter = self.scatter + scatter + np.outer(gap, gap) * self.count * count / total
            self.mean = self.mean + gap * count / total
            self.count = total


def _enough(count: int) -> None:
    if count < 2:
        raise UndefinedMetric(f"FID needs two images in each set, found {count}: undefined")


def _distance(gap: Floats, trace: float, overlap: float, size: int) -> float:
    """Returns FID from the means' difference, tr (S1 + S2) and tr (S1 S2)^(1/2)."""
    value = float(gap @ gap) + trace - 2.0 * overlap
    # What rounding alone can leave of equal sets is 0, so that identical sets are exactly 0.
    return value if value > 64 * np.finfo(np.float64).eps * size * trace else 0.0


def _overlap(first: Floats, second: Floats) -> float:
    """Returns tr (S1 S2)^(1/2) from factors with S1 = F1^T F1, S2 = F2^T F2.

    It is the nuclear norm of F1 F2^T: nothing is squared first, so that directions without variance
    (dead channels) cost no digits.
    """
    return float(np.linalg.svd(first @ second.T, compute_uv=False).sum())


def _factor(scatter: Floats) -> Floats:
    """Returns F (rank, D) with F^T F = the scatter: Cholesky with pivots, as rows as its rank.

    A fifteenth of the time of an eigendecomposition, and few images leave few rows.
    """
    from scipy.linalg import lapack

    # Its transpose is itself, and lies in memory as LAPACK wants it.
    lower, pivots, rank, info = lapack.dpstrf(scatter.T, lower=1)
    if info < 0:
        raise UserError("FID: the covariance cannot be decomposed")
    factor = np.empty((rank, len(scatter)))
    factor[:, pivots - 1] = np.triu(lower[:, :rank].T)
    return factor


def from_moments(first: Moments, second: Moments) -> float:
    """Returns FID from streamed moments, >= 0.

    One scatter is factored; with it, tr (S1 S2)^(1/2) is the sum of the roots of the eigenvalues of
    F2 S1 F2^T. Where those span too many digits to be squared, both are factored.
    """
    larger, smaller = sorted((first, second), key=lambda moments: -moments.count)
    for moments in (larger, smaller):
        _enough(moments.count)
    one, n, m = larger.scatter, larger.count - 1, smaller.count - 1
    factor = _factor(smaller.scatter)
    values = np.linalg.eigvalsh(factor @ one @ factor.T) if len(factor) else np.zeros(1)
    squared = bool(values[0] > WELL_SPREAD * values[-1])
    overlap = float(np.sqrt(values).sum()) if squared else _overlap(_factor(one), factor)
    trace = float(np.trace(one) / n + np.trace(smaller.scatter) / m)
    return _distance(first.mean - second.mean, trace, overlap / np.sqrt(n * m), len(one))


def compute(synthetic_features: npt.ArrayLike, real_features: npt.ArrayLike) -> float:
    """Returns FID of features (N, D) and (M, D), >= 0; symmetric; exactly 0 for identical sets.

    The factors are the centred features themselves, or their triangular part where there are more
    images than dimensions: with few images no D x D matrix is formed, which is exact and fast.
    """
    x, y = feature_pair(synthetic_features, real_features, "FID features")
    factors: list[Floats] = []
    for features in (x, y):
        _enough(len(features))
        centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
        tall = len(centred) > centred.shape[1]
        factors.append(np.asarray(np.linalg.qr(centred, mode="r")) if tall else centred)
    trace = float(sum((factor * factor).sum() for factor in factors))
    size = max(factors[0].shape + factors[1].shape)
    return _distance(x.mean(axis=0) - y.mean(axis=0), trace, _overlap(*factors), size)


METRIC = Metric(
    name="fid",
    title="FID",
    short="FID",
    unit=DISTANCE,
    higher_is_better=False,
    takes="features",
    of=compute,
    place=10,
    variants=COMPARISONS,
    least=2,
    network="inception",
)
