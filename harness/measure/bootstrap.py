"""Bootstrap over images: how far a metric would move with other test images of the same kind.

Images are drawn with replacement, normal and anomalous ones apart, so that no draw lacks a class.
A metric of a ranking is a function of counts that add up over images, so a draw costs one row of a
matrix product: each image is counted once, in bins of score, and never looked at again.

Pixels are counted between at most 1024 thresholds spread over both axes of the curves. What that
grid misses of the metric itself is added back; only the spread comes from the grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.metrics import MetricColumn
from sia_gen.core.seeds import generator
from sia_gen.core.statistics.inputs import Array, Floats
from sia_gen.core.statistics.pixels import region_weights
from sia_gen.core.statistics.ranking import Ranking

REPLICATES = 1000
LEVEL = 0.95
BINS = 1024


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What each image adds, by bins of falling score: (N, K) normal, hits, and region shares."""

    normal: Floats
    hits: Floats
    regions: Floats
    anomalous: npt.NDArray[np.bool_]


def draws(
    anomalous: npt.NDArray[np.bool_], *seed: int | str, replicates: int = REPLICATES
) -> Floats:
    """Returns how often each image is drawn, (B, N): class by class, repeatable by the seed."""
    rng = generator("bootstrap", *seed)
    times = np.zeros((replicates, len(anomalous)))
    for label in (False, True):
        members = np.flatnonzero(anomalous == label)
        if len(members):
            share = np.full(len(members), 1.0 / len(members))
            times[:, members] = rng.multinomial(len(members), share, size=replicates)
    return times


def count_images(scores: Array, anomalous: npt.NDArray[np.bool_]) -> Counts:
    """Returns the counts of image scores (N,): every distinct score is a bin."""
    levels, places = np.unique(scores, return_inverse=True)
    where = np.zeros((len(scores), len(levels)))
    where[np.arange(len(scores)), len(levels) - 1 - places.ravel()] = 1.0
    hits = where * anomalous[:, None]
    return Counts(normal=where - hits, hits=hits, regions=hits, anomalous=anomalous)


def cuts_of(ranking: Ranking, bins: int = BINS) -> Array:
    """Returns rising thresholds, fewer than `bins`, spread evenly over hits and false positives."""
    hits = np.cumsum(ranking.weights[::-1])[::-1] / ranking.weights.sum()
    false = ranking.above / max(1, ranking.negatives)
    # False positives by their square root: low rates, where PRO and AP live, get more thresholds.
    order = hits + np.sqrt(false)
    levels = np.linspace(0.0, order[0], bins // 2)
    chosen = [len(order) - 1 - np.searchsorted(order[::-1], levels[1:-1])]
    chosen.append(np.searchsorted(-hits, -np.linspace(0.0, 1.0, bins // 2)[1:-1]))
    picked = np.unique(np.clip(np.concatenate(chosen), 0, len(order) - 1))
    return np.asarray(ranking.thresholds[picked])


def count_pixels(
    maps: Iterable[Array], masks: Iterable[Array], anomalous: npt.NDArray[np.bool_], cuts: Array
) -> Counts:
    """Returns the counts of score maps (H, W) one after the other, in the bins between cuts."""
    width = len(cuts) + 1
    normal, hits, regions = (np.zeros((len(anomalous), width)) for _ in range(3))
    for i, (map_HW, mask_HW) in enumerate(zip(maps, masks, strict=True)):
        place = width - 1 - np.searchsorted(cuts, np.asarray(map_HW), side="right")
        mask = np.asarray(mask_HW) != 0
        if mask.any():
            inside = place[mask]
            hits[i] = np.bincount(inside, minlength=width)
            regions[i] = np.bincount(inside, region_weights(mask)[0], minlength=width)
        normal[i] = np.bincount(place[~mask], minlength=width)
    return Counts(normal=normal, hits=hits, regions=regions, anomalous=anomalous)


def replicate(counts: Counts, times_BN: Floats, column: MetricColumn) -> Floats:
    """Returns a column's value in every draw, (B,)."""
    regions = column.metric.takes == "region ranking"
    hits = times_BN @ (counts.regions if regions else counts.hits)
    return column.metric.of_draws(times_BN @ counts.normal, hits, **column.variant.arguments)


def interval(values_B: Floats, grid_value: float, value: float) -> tuple[float, float]:
    """Returns the 95 % interval (percentiles) of a share, moved from the grid's value to it."""
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(values_B - grid_value + value, [tail, 1.0 - tail])
    return float(np.clip(low, 0.0, value)), float(np.clip(high, value, 1.0))


def intervals(
    counts: Counts, values: dict[str, float], columns: Iterable[MetricColumn], *seed: Any
) -> dict[str, tuple[float, float]]:
    """Returns the intervals of columns' values, by name, over the same draws."""
    times = draws(counts.anomalous, *seed)
    once = np.ones((1, len(counts.anomalous)))
    return {
        column.name: interval(
            replicate(counts, times, column),
            float(replicate(counts, once, column)[0]),
            values[column.name],
        )
        for column in columns
    }
