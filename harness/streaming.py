"""Pixel metrics of any number of images in 24 MiB: a histogram of the scores' float32 bit patterns.

The bits of a float32, read as an integer, rise with the float; their 20 highest (sign, exponent,
11 bits of mantissa) give about a million bins, each 1/2048 of its score wide. Counts add up, so
that images stream through, and histograms of several processes merge by addition.

Scores in one bin count as ties. What that can have changed is bounded from the counts themselves
(`bounds`): no result has to be taken on trust, and float16 maps are exact. Scores that crowd into
a few bins (a sigmoid's, just below 1) show in the bound; `harness.metrics` ranks those exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.metrics._inputs import Array, Floats, UndefinedMetric, binary, real
from harness.metrics._pixels import region_weights
from harness.metrics._ranking import Ranking
from sia_gen.core.errors import UserError

BITS = 20
BINS = 1 << BITS
CHUNK = 1 << 20  # pixels counted together


def keys(scores: Array) -> npt.NDArray[np.int64]:
    """Returns the bin of each score, 0 .. 2^20 - 1, rising with the score; NaN is refused before.

    Float64 is rounded to float32, which keeps the order but for new ties inside a bin.
    """
    with np.errstate(over="ignore"):
        values = scores.astype(np.float32, copy=False) + np.float32(0.0)  # -0 becomes 0
    if scores.dtype == np.float64 and not np.isfinite(values).all():
        raise UserError("scores beyond float32's range: divide them by a constant")
    bits = np.ascontiguousarray(values).view(np.uint32)
    # Negative floats fall as their bits rise: all bits are flipped; of others only the sign's.
    flip = np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return ((bits ^ flip) >> (32 - BITS)).astype(np.int64)


class PixelHistogram:
    """Counts of normal pixels, defect pixels and region shares by score: a state of 24 MiB."""

    def __init__(self) -> None:
        self.normal = np.zeros(BINS, dtype=np.int64)
        self.defect = np.zeros(BINS, dtype=np.int64)
        self.regions = np.zeros(BINS, dtype=np.float64)
        self.images = 0

    @property
    def nbytes(self) -> int:
        """The state's size in bytes, whatever has been counted."""
        return self.normal.nbytes + self.defect.nbytes + self.regions.nbytes

    def update(self, score_maps: npt.ArrayLike, masks: npt.ArrayLike) -> None:
        """Counts maps (N, H, W) or one map (H, W) with their masks; nothing is kept of them.

        Bad input is refused before anything of the call is counted.
        """
        maps, truth = np.asanyarray(score_maps), np.asanyarray(masks)
        if maps.ndim == 2 and truth.ndim == 2:
            maps, truth = maps[None], truth[None]
        if maps.ndim != 3 or maps.shape != truth.shape:
            raise UserError(
                f"score maps {maps.shape} and masks {truth.shape}: expected the same (N, H, W)"
            )
        step = max(1, CHUNK // max(1, maps[:1].size))
        blocks = [slice(i, i + step) for i in range(0, len(maps), step)]
        for block in blocks:
            real(maps[block], f"score maps {block.start}..{block.start + step - 1}")
        for block in blocks:
            self._count(real(maps[block], "score maps"), binary(truth[block], "masks"))
        self.images += len(maps)

    def _count(self, maps_NHW: Array, masks_NHW: npt.NDArray[np.bool_]) -> None:
        places = keys(maps_NHW)
        if not places.size:
            return
        low, high = int(places.min()), int(places.max()) + 1
        places -= low
        width, span = high - low, slice(low, high)
        defects = places[masks_NHW]
        every = np.bincount(places.ravel(), minlength=width)
        if len(defects):
            found = np.bincount(defects, minlength=width)
            weights = [region_weights(mask)[0] for mask in masks_NHW if mask.any()]
            self.regions[span] += np.bincount(defects, np.concatenate(weights), minlength=width)
            self.defect[span] += found
            every -= found
        self.normal[span] += every

    def merge(self, other: PixelHistogram) -> None:
        """Adds what another histogram has counted, of other images."""
        self.normal += other.normal
        self.defect += other.defect
        self.regions += other.regions
        self.images += other.images

    def rankings(self) -> tuple[Ranking, Ranking]:
        """Returns the rankings by pixel and by region, scores of one bin as ties."""
        bins = np.flatnonzero(self.defect)
        if not len(bins):
            raise UndefinedMetric("no mask holds a defect pixel: the value is undefined")
        total = int(self.normal.sum())
        above = total - np.cumsum(self.normal)
        weights = self.defect[bins].astype(np.float64)
        pixels = Ranking.of_counts(bins, weights, above[bins], self.normal[bins], total)
        return pixels, pixels.weighted(self.regions[bins])

    def auroc(self) -> float:
        """Returns the pixel AUROC, 0..1."""
        return self.rankings()[0].area()

    def average_precision(self) -> float:
        """Returns the pixel average precision, 0..1."""
        return self.rankings()[0].average_precision()

    def f1_max(self) -> float:
        """Returns the pixel F1-max, 0..1."""
        return self.rankings()[0].f1_max()

    def pro(self, limit: float = 0.3) -> float:
        """Returns PRO up to a false-positive rate, 0..1."""
        return self.rankings()[1].area(limit)

    def bounds(self, limits: tuple[float, ...] = (0.3, 0.05)) -> dict[str, float]:
        """Returns how far each value can lie from that of the unrounded scores, at most."""
        pixels, regions = self.rankings()
        found = {
            "auroc": area_bound(pixels, 1.0),
            "average_precision": _precision_bound(pixels),
            "f1_max": _f1_bound(pixels),
        }
        return found | {f"pro_{limit:g}": area_bound(regions, limit) for limit in limits}


def area_bound(ranking: Ranking, limit: float) -> float:
    """Returns half the area of the boxes within which ties leave the curve open, by the limit."""
    hits = ranking.weights / ranking.weights.sum()
    start = ranking.above / ranking.negatives
    run = (ranking.not_below - ranking.above) / ranking.negatives
    # Within a box the curve rises monotonically between opposite corners.
    inside = start < limit
    return float((hits * run)[inside].sum()) / 2.0 / limit


def _falling(ranking: Ranking) -> tuple[Floats, Floats, Floats, Floats]:
    weights: Floats = ranking.weights[::-1]
    before: Floats = np.cumsum(weights) - weights
    above = ranking.above[::-1].astype(np.float64)
    return weights, before, above, ranking.not_below[::-1].astype(np.float64)


def _precision_bound(ranking: Ranking) -> float:
    weights, before, above, below = _falling(ranking)
    held = weights * (before + weights) / (before + weights + below)
    # All defect pixels of a bin before its normal ones, and the reverse. The sum of
    # (t + i) / (t + i + c) for i = 1 .. w lies above w - c log((t + w + c) / (t + c)).
    best = weights * (before + weights) / (before + weights + above)
    safe = np.where(before + below > 0, before + below, 1.0)
    worst = weights - below * np.log((before + weights + below) / safe) * (below > 0)
    worst = np.where(weights > 1, worst, weights * (before + weights) / (before + weights + below))
    return float(max((best - held).sum(), (held - worst).sum()) / weights.sum())


def _f1_bound(ranking: Ranking) -> float:
    weights, before, above, below = _falling(ranking)
    total, hits = weights.sum(), before + weights
    best = float((2.0 * hits / (total + hits + above)).max())
    return best - float((2.0 * hits / (total + hits + below)).max())


def histogram_of(score_maps: Any, masks: Any) -> PixelHistogram:
    """Returns the histogram of maps and masks (N, H, W), read in blocks: they may be mapped."""
    histogram = PixelHistogram()
    step = max(1, CHUNK // max(1, int(np.prod(np.shape(score_maps)[1:]))))
    for start in range(0, len(score_maps), step):
        histogram.update(score_maps[start : start + step], masks[start : start + step])
    return histogram
