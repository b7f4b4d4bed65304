"""Intervals over images: the resampled counts are the metrics, and the intervals mean something."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from harness_support import scores_of

from harness import metrics
from harness.measure import bootstrap
from harness.measure.detection_metrics import measure
from harness.metrics import image_auroc
from sia_gen.core.statistics.pixels import rank_both

IMAGE = [c for c in metrics.columns("image").values() if c.variant.inputs == ("max",)]
AUROC = IMAGE[0]


def images(seed: int, count: int = 40) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) < count // 2
    return np.round(rng.normal(size=count) + labels, 1), labels


@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_the_metric_of_the_drawn_images(seed: int) -> None:
    scores, labels = images(seed)
    counts = bootstrap.count_images(scores, labels)
    times = bootstrap.draws(labels, seed, replicates=5)
    for row in times.astype(int):
        drawn, truth = np.repeat(scores, row), np.repeat(labels, row)
        for column in IMAGE:
            value = bootstrap.replicate(counts, row[None].astype(float), column)[0]
            assert value == pytest.approx(column.metric.compute(drawn, truth), abs=1e-12)
            # Draw by draw, as for a metric without a formula for all draws at once.
            slow = replace(column, metric=replace(column.metric, draws=None))
            again = bootstrap.replicate(counts, row[None].astype(float), slow)[0]
            assert again == pytest.approx(value, abs=1e-12)


def test_pixels_in_bins_are_near_the_exact_metrics() -> None:
    scores = scores_of(seed=5)
    maps, masks = scores.maps_NHW, scores.masks_NHW
    labels = masks.any(axis=(1, 2))
    pixels, _ = rank_both(maps, masks)
    counts = bootstrap.count_pixels(maps, masks, labels, bootstrap.cuts_of(pixels))
    row = bootstrap.draws(labels, 0, replicates=1).astype(int)[0]
    drawn = (np.repeat(maps, row, axis=0), np.repeat(masks, row, axis=0))
    for name, column in metrics.columns("pixel").items():
        value = column.metric.compute(*drawn, **column.variant.arguments)
        found = bootstrap.replicate(counts, row[None].astype(float), column)[0]
        assert found == pytest.approx(value, abs=2e-3), name


def test_every_draw_has_both_classes_and_is_repeatable() -> None:
    labels = np.array([True] * 3 + [False] * 9)
    times = bootstrap.draws(labels, "x")
    assert times.shape == (bootstrap.REPLICATES, 12)
    assert (times[:, :3].sum(axis=1) == 3).all()
    assert (times[:, 3:].sum(axis=1) == 9).all()
    assert np.array_equal(times, bootstrap.draws(labels, "x"))
    assert not np.array_equal(times, bootstrap.draws(labels, "y"))


def test_intervals_hold_the_value_and_shrink_with_more_images() -> None:
    widths = []
    for count in (20, 320):
        scores, labels = images(7, count)
        value = image_auroc.compute(scores, labels)
        counts = bootstrap.count_images(scores, labels)
        ((low, high),) = bootstrap.intervals(counts, {AUROC.name: value}, [AUROC], 0).values()
        assert 0.0 <= low <= value <= high <= 1.0
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    # Two unit Gaussians 1 apart: AUROC = Phi(1 / sqrt 2) = 0.7602.
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = np.arange(120) < 60
        scores = rng.normal(size=120) + labels
        value = image_auroc.compute(scores, labels)
        counts = bootstrap.count_images(scores, labels)
        times = bootstrap.draws(labels, seed, replicates=200)
        low, high = bootstrap.interval(bootstrap.replicate(counts, times, AUROC), value, value)
        held += low <= 0.7602 <= high
    assert 87 <= held <= 99


def test_every_value_of_a_record_has_its_interval() -> None:
    found = measure(scores_of(seed=1))
    for name, entry in found.metrics.items():
        low, high = entry["interval"]
        assert 0.0 <= low <= entry["value"] <= high <= 1.0, name
    assert set(found.curves) == {"image_roc_max", "image_roc_avgpool16_max", "pixel_roc", "pro"}
    for x, y in found.curves.values():
        assert x == sorted(x)
        assert y == sorted(y)
        assert len(x) == len(y) <= 70
    assert found.curves["pro"][0][-1] == 0.3
