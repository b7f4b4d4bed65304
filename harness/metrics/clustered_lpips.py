"""Clustered LPIPS (RealNet, Appendix C.6; IC-LPIPS): how much synthetic anomalies differ.

Each synthetic image joins the real anomaly that is nearest in LPIPS; per cluster the mean pairwise
LPIPS; the mean over clusters. Clusters of fewer than two images have no pair: they are skipped,
and their number is reported.

LPIPS is a squared Euclidean distance once each layer's normalised features are scaled by the square
root of their weight and of the layer's area. In that space a cluster's mean pairwise distance is
2 / (n - 1) times its scatter, so images stream through one block at a time and no pair is formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.metrics import NUMBER, TO_ANOMALIES, Metric
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import Array, Floats, UndefinedMetric, real

CHUNK = 1 << 16  # dimensions converted to float64 together


@dataclass(frozen=True, kw_only=True)
class Result:
    """The value with what it rests on: clusters used, skipped as empty or single, their sizes."""

    value: float
    clusters: int
    empty: int
    single: int
    sizes: tuple[int, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of clusters as a record names them."""
        return {
            "clusters_used": self.clusters,
            "clusters_skipped_single": self.single,
            "clusters_skipped_empty": self.empty,
        }


def _matrix(features: npt.ArrayLike, name: str) -> Array:
    array = real(features, name)
    if array.ndim != 2:
        raise UserError(f"{name}: expected (N, D), found {array.shape}")
    return array


def squared_distances(x: Array, y: Array) -> Floats:
    """Returns |x_i - y_j|^2 as float64 (N, M): the LPIPS distances of two sets of embeddings."""
    total = np.zeros((len(x), len(y)))
    for start in range(0, x.shape[1], CHUNK):
        a = x[:, start : start + CHUNK].astype(np.float64)
        b = y[:, start : start + CHUNK].astype(np.float64)
        total += (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2.0 * (a @ b.T)
    return np.maximum(total, 0.0)


class Clusters:
    """Clusters around real anomalies (R, D); synthetic embeddings stream through `update`."""

    def __init__(self, real_features: npt.ArrayLike) -> None:
        self.centres = _matrix(real_features, "real embeddings")
        if not len(self.centres):
            raise UndefinedMetric("there is no real anomaly to cluster by: undefined")
        self.counts = np.zeros(len(self.centres), dtype=np.int64)
        self.scatters = np.zeros(len(self.centres))
        self._means: dict[int, Floats] = {}

    def update(self, synthetic_features: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Counts one block (N, D) and returns the index of each image's nearest real anomaly."""
        block = _matrix(synthetic_features, "synthetic embeddings")
        if block.shape[1] != self.centres.shape[1]:
            raise UserError(f"embeddings {block.shape} and {self.centres.shape} do not match")
        nearest = squared_distances(block, self.centres).argmin(axis=1)
        for cluster, row in zip(nearest.tolist(), block.astype(np.float64), strict=True):
            self._add(cluster, 1, row, 0.0)
        return nearest

    def merge(self, other: Clusters) -> None:
        """Adds what another instance with the same real anomalies has counted."""
        if not np.array_equal(self.centres, other.centres):
            raise UserError("clusters around different real anomalies cannot be merged")
        for cluster, mean in other._means.items():
            self._add(cluster, int(other.counts[cluster]), mean, float(other.scatters[cluster]))

    def _add(self, cluster: int, count: int, mean: Floats, scatter: float) -> None:
        # Welford's update: exact duplicates leave the scatter exactly 0.
        before = int(self.counts[cluster])
        held = self._means.get(cluster)
        if held is None:
            self._means[cluster] = mean.copy()
        else:
            gap = mean - held
            total = before + count
            scatter += float(gap @ gap) * before * count / total
            self._means[cluster] = held + gap * count / total
        self.counts[cluster] += count
        self.scatters[cluster] += scatter

    def result(self) -> Result:
        """Returns the mean over clusters of their mean pairwise LPIPS, with the cluster sizes."""
        used = self.counts >= 2
        if not used.any():
            raise UndefinedMetric(
                f"none of {len(self.counts)} clusters holds two images: the value is undefined"
            )
        pairwise = 2.0 * self.scatters[used] / (self.counts[used] - 1)
        return Result(
            value=float(pairwise.mean()),
            clusters=int(used.sum()),
            empty=int((self.counts == 0).sum()),
            single=int((self.counts == 1).sum()),
            sizes=tuple(self.counts.tolist()),
        )


def compute(synthetic_features: npt.ArrayLike, real_features: npt.ArrayLike) -> float:
    """Returns clustered LPIPS, >= 0, of embeddings (N, D) around real anomalies (R, D)."""
    clusters = Clusters(real_features)
    clusters.update(synthetic_features)
    return clusters.result().value


METRIC = Metric(
    name="clustered_lpips",
    title="Clustered LPIPS",
    short="cLPIPS",
    unit=NUMBER,
    higher_is_better=True,
    takes="embeddings",
    of=compute,
    place=50,
    stream=Clusters,
    variants=TO_ANOMALIES,
    detail="diversity",
    network="alex",
)
