"""Pixel metrics of any number of images in 24 MiB: a histogram of the scores' float32 bit patterns.

The bits of a float32, read as an integer, rise with the float; their highest give bins whose width
is a fixed share of their score. Bins lie in blocks that exist only where scores do, 28 bits fine
(2^-19 of the score) at first; whenever more blocks would be needed than there is room for, all
bins are joined in pairs. Counts add up, so that images stream through, and histograms of several
processes merge.

Scores in one bin count as ties. What that can have changed is bounded from the counts themselves
(`bounds`): no result has to be taken on trust, and float16 maps are exact. Scores that crowd where
float32 itself is coarse (a sigmoid's, just below 1) show in the bound.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import Array, Floats, UndefinedMetric, binary, real
from sia_gen.core.statistics.pixels import region_weights
from sia_gen.core.statistics.ragged import Ragged
from sia_gen.core.statistics.ranking import Ranking

BLOCK = 1 << 12  # bins that are allotted together
SLOTS = 256  # blocks there is room for: 2^20 bins
FINEST = 4  # low bits of the pattern that are never looked at
CHUNK = 1 << 20  # pixels counted together


def keys(scores: Array) -> npt.NDArray[np.int64]:
    """Returns each score's bit pattern as a number, 0 .. 2^32 - 1, that rises with the score.

    Float64 is rounded to float32, which keeps the order but for new ties.
    """
    with np.errstate(over="ignore"):
        values = scores.astype(np.float32, copy=False) + np.float32(0.0)  # -0 becomes 0
    if scores.dtype == np.float64 and not np.isfinite(values).all():
        raise UserError("scores beyond float32's range: divide them by a constant")
    bits = np.ascontiguousarray(values).view(np.uint32)
    # Negative floats fall as their bits rise: all bits are flipped; of others only the sign's.
    flip = np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return (bits ^ flip).astype(np.int64)


class PixelHistogram:
    """Counts of normal pixels, defect pixels and region shares by score: a state of 24 MiB."""

    def __init__(self) -> None:
        self.normal = np.zeros(SLOTS * BLOCK, dtype=np.int64)
        self.defect = np.zeros(SLOTS * BLOCK, dtype=np.int64)
        self.regions = np.zeros(SLOTS * BLOCK, dtype=np.float64)
        self.images = 0
        self.shift = FINEST
        self._blocks = np.zeros(0, dtype=np.int64)  # which block each used slot holds
        self._slots = self._table()

    def _table(self) -> npt.NDArray[np.int64]:
        """Returns each possible block's slot, -1 where it has none."""
        table = np.full((1 << 32 - self.shift) // BLOCK, -1, dtype=np.int64)
        table[self._blocks] = np.arange(len(self._blocks))
        return table

    @property
    def nbytes(self) -> int:
        """The state's size in bytes, whatever has been counted."""
        counts = self.normal.nbytes + self.defect.nbytes + self.regions.nbytes
        return counts + self._slots.nbytes + self._blocks.nbytes

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

    def _make_room(self, wanted: npt.NDArray[np.int64]) -> None:
        """Gives blocks (by number at the finest width) a slot, joining bins while there is none."""
        while True:
            blocks = np.unique(wanted >> (self.shift - FINEST))
            fresh = blocks[self._slots[blocks] < 0]
            if len(self._blocks) + len(fresh) <= SLOTS:
                self._slots[fresh] = np.arange(len(fresh)) + len(self._blocks)
                self._blocks = np.concatenate([self._blocks, fresh])
                return
            self._join()

    def _join(self) -> None:
        """Joins all bins in pairs: half as many, each twice as wide."""
        used, old = len(self._blocks), self._blocks
        self._blocks, place = np.unique(old >> 1, return_inverse=True)
        for name in ("normal", "defect", "regions"):
            counts = getattr(self, name)
            pairs = counts[: used * BLOCK].reshape(used, BLOCK // 2, 2).sum(axis=2)
            joined = np.zeros((SLOTS, 2, BLOCK // 2), dtype=counts.dtype)
            joined[place, old & 1] = pairs
            setattr(self, name, joined.ravel())
        self.shift += 1
        self._slots = self._table()

    def _count(self, maps_NHW: Array, masks_NHW: npt.NDArray[np.bool_]) -> None:
        found = keys(maps_NHW)
        if not found.size:
            return
        finest = found >> FINEST
        present = np.bincount((finest // BLOCK).ravel(), minlength=1)
        self._make_room(np.flatnonzero(present))
        places = found >> self.shift
        places = self._slots[places // BLOCK] * BLOCK + places % BLOCK
        width = len(self._blocks) * BLOCK
        defects = places[masks_NHW]
        every = np.bincount(places.ravel(), minlength=width)
        if len(defects):
            hits = np.bincount(defects, minlength=width)
            weights = [region_weights(mask)[0] for mask in masks_NHW if mask.any()]
            self.regions[:width] += np.bincount(defects, np.concatenate(weights), width)
            self.defect[:width] += hits
            every -= hits
        self.normal[:width] += every

    def packed(self) -> npt.NDArray[np.int64]:
        """Returns the counts as one row of numbers; several in a row are their sum (unpacked)."""
        used = len(self._blocks) * BLOCK
        counts = [self.normal[:used], self.defect[:used], self.regions[:used].view(np.int64)]
        head = [self.shift, self.images, len(self._blocks)]
        return np.concatenate([np.array(head, dtype=np.int64), self._blocks, *counts])

    @classmethod
    def unpacked(cls, rows: npt.NDArray[Any]) -> PixelHistogram:
        """Returns the histogram of any number of packed ones in a row; an empty one of none."""
        whole, start = cls(), 0
        while start < len(rows):
            shift, images, blocks = (int(n) for n in rows[start : start + 3])
            one, used = cls(), blocks * BLOCK
            one.shift, one.images = shift, images
            parts = np.split(
                rows[start + 3 : start + 3 + blocks + 3 * used],
                [blocks, blocks + used, blocks + 2 * used],
            )
            one._blocks = parts[0].copy()
            one.normal[:used], one.defect[:used] = parts[1], parts[2]
            one.regions[:used] = np.ascontiguousarray(parts[3]).view(np.float64)
            one._slots = one._table()
            start += 3 + blocks + 3 * used
            if start == len(rows) and not whole.images:
                return one
            whole.merge(one)
        return whole

    def merge(self, other: PixelHistogram) -> None:
        """Adds what another histogram has counted, of other images; the other stays as it is."""
        other = copy.deepcopy(other)
        while self.shift < other.shift:
            self._join()
        while other.shift < self.shift:
            other._join()
        self._make_room(other._blocks << (other.shift - FINEST))
        while other.shift < self.shift:
            other._join()
        slots = self._slots[other._blocks]
        for name in ("normal", "defect", "regions"):
            mine = getattr(self, name).reshape(SLOTS, BLOCK)
            mine[slots] += getattr(other, name).reshape(SLOTS, BLOCK)[: len(slots)]
        self.images += other.images

    def _rising(self, counts: Array) -> Array:
        """Returns counts of all used bins by rising score."""
        order = np.argsort(self._blocks)
        return np.asarray(counts.reshape(SLOTS, BLOCK)[order].ravel())

    def rankings(self) -> tuple[Ranking, Ranking]:
        """Returns the rankings by pixel and by region, scores of one bin as ties."""
        normal, defect = self._rising(self.normal), self._rising(self.defect)
        bins = np.flatnonzero(defect)
        if not len(bins):
            raise UndefinedMetric("no mask holds a defect pixel: the value is undefined")
        total = int(normal.sum())
        above = total - np.cumsum(normal)
        weights = defect[bins].astype(np.float64)
        pixels = Ranking.of_counts(bins, weights, above[bins], normal[bins], total)
        return pixels, pixels.weighted(self._rising(self.regions)[bins])

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
    if isinstance(score_maps, Ragged):
        for map_HW, mask_HW in zip(score_maps, masks, strict=True):
            histogram.update(map_HW, mask_HW)
        return histogram
    step = max(1, CHUNK // max(1, int(np.prod(np.shape(score_maps)[1:]))))
    for start in range(0, len(score_maps), step):
        histogram.update(score_maps[start : start + step], masks[start : start + step])
    return histogram
