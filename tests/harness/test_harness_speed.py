"""Promises of speed, as ratios of CPU time within one process."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from harness.metrics import clustered_lpips, fid, pro


def seconds(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def test_pro_is_fifty_times_faster_than_thresholds() -> None:
    rng = np.random.default_rng(0)
    maps = ndimage.gaussian_filter(rng.random((83, 256, 256)).astype(np.float32), (0, 3, 3))
    masks = np.zeros(maps.shape, dtype=np.uint8)
    for i in range(63):
        y, x = rng.integers(0, 200, 2)
        masks[i, y : y + 30, x : x + 40] = 1
    grid = np.linspace(maps.min(), maps.max(), 1001)[1:]

    def a_threshold(level: float) -> None:
        """One of the 1000 steps: binarise all maps, label all masks, overlap of every region."""
        for map_HW, mask_HW in zip(maps, masks, strict=True):
            above = map_HW > level
            labels, regions = ndimage.label(mask_HW, np.ones((3, 3)))
            if regions:
                ndimage.mean(above, labels, np.arange(1, regions + 1))
            (above & (mask_HW == 0)).sum()

    exact = min(seconds(lambda: pro.compute(maps, masks)) for _ in range(2))
    # Every step costs the same, so five of them tell what a thousand cost.
    steps = sum(seconds(lambda level=level: a_threshold(level)) for level in grid[::200])
    assert steps / 5 * 1000 > 50 * exact


def test_fid_takes_a_tenth_of_torchmetrics_time_and_equals_it() -> None:
    import torch
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(1)
    spectrum = 1.0 / np.arange(1, 2049) ** 0.5
    x = rng.normal(size=(1000, 2048)) * spectrum
    y = rng.normal(0.1, 1.1, size=(100, 2048)) * spectrum
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    moments = (a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    theirs: list[float] = []
    slow = seconds(lambda: theirs.append(float(_compute_fid(*moments))))
    fast = min(seconds(lambda: fid.compute(x, y)) for _ in range(2))
    assert fid.compute(x, y) == pytest.approx(theirs[0], rel=1e-4)
    assert fast < slow / 10


def test_clustered_lpips_streams_a_thousand_by_a_hundred() -> None:
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(100, 2000)).astype(np.float32)
    clusters = clustered_lpips.Clusters(centres)
    kept = []
    for _ in range(50):
        block = (centres[rng.integers(0, 100, 20)] + rng.normal(size=(20, 2000))).astype(np.float32)
        clusters.update(block)
        kept.append(block)
    result = clusters.result()
    together = np.concatenate(kept)
    nearest = clustered_lpips.squared_distances(together, centres).argmin(axis=1)
    means = []
    for cluster in np.unique(nearest):
        own = together[nearest == cluster]
        if len(own) > 1:
            apart = clustered_lpips.squared_distances(own, own)
            means.append(apart.sum() / (len(own) * (len(own) - 1)))
    assert result.value == pytest.approx(float(np.mean(means)), rel=1e-6)
    assert sum(result.sizes) == 1000
