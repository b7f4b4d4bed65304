"""The histogram beside the exact ranking: values, its own bounds, merging, speed and state."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from harness.metrics import pixel_ap, pixel_auroc, pixel_f1max, pro
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.histogram import (
    BLOCK,
    FINEST,
    SLOTS,
    PixelHistogram,
    histogram_of,
    keys,
)
from sia_gen.core.statistics.inputs import UndefinedMetric


def images(seed: int, count: int = 6, side: int = 48) -> tuple[Any, Any]:
    """Smooth noise maps that rise on masks with holes; the last image is normal."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, side, side), dtype=np.uint8)
    for i in range(count - 1):
        y, x, size = rng.integers(0, side - 16), rng.integers(0, side - 16), rng.integers(6, 16)
        masks[i, y : y + size, x : x + size] = 1
        masks[i, y + 2 : y + 4, x + 2 : x + 4] = 0
    noise = ndimage.gaussian_filter(rng.random((count, side, side)), (0, 1, 1))
    return (noise + 0.1 * masks * rng.random((count, 1, 1))).astype(np.float32), masks


def exact(maps: Any, masks: Any) -> dict[str, float]:
    return {
        "auroc": pixel_auroc.compute(maps, masks),
        "average_precision": pixel_ap.compute(maps, masks),
        "f1_max": pixel_f1max.compute(maps, masks),
        "pro_0.3": pro.compute(maps, masks, 0.3),
        "pro_0.05": pro.compute(maps, masks, 0.05),
    }


def streamed(histogram: PixelHistogram) -> dict[str, float]:
    return {
        "auroc": histogram.auroc(),
        "average_precision": histogram.average_precision(),
        "f1_max": histogram.f1_max(),
        "pro_0.3": histogram.pro(0.3),
        "pro_0.05": histogram.pro(0.05),
    }


def test_keys_rise_with_the_score_whatever_its_sign() -> None:
    values = np.array([-np.inf, -3e38, -2.0, -1.0, -1e-30, 0.0, 1e-30, 0.5, 1.0, 2.0, 3e38])
    found = keys(values[1:].astype(np.float32))
    assert (np.diff(found) > 0).all()
    assert found.min() >= 0
    assert found.max() < 1 << 32
    assert keys(np.array([-0.0], dtype=np.float32)) == keys(np.array([0.0], dtype=np.float32))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_auroc_and_pro_equal_the_exact_ones(sign: float) -> None:
    maps, masks = images(1, count=20, side=128)
    maps = np.float32(sign) * maps
    values, truth = streamed(histogram_of(maps, masks)), exact(maps, masks)
    assert values["auroc"] == pytest.approx(truth["auroc"], abs=1e-5)
    assert values == pytest.approx(truth, abs=1e-5)


def test_float16_maps_are_exact() -> None:
    maps, masks = images(2)
    maps = maps.astype(np.float16)
    values, truth = streamed(histogram_of(maps, masks)), exact(maps, masks)
    assert values == pytest.approx(truth, abs=1e-12)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    gain=st.floats(1e-6, 1e6),
    shift=st.floats(-1e3, 1e3),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_no_value_is_further_off_than_it_says(
    seed: int, gain: float, shift: float, dtype: Any
) -> None:
    # Large shifts crowd all scores into a few bins: then the bound must be large.
    maps, masks = images(seed, count=3, side=24)
    maps = maps.astype(dtype) * dtype(gain) + dtype(shift)
    histogram = histogram_of(maps, masks)
    values, truth, bounds = streamed(histogram), exact(maps, masks), histogram.bounds()
    for name, bound in bounds.items():
        assert abs(values[name] - truth[name]) <= bound + 1e-9, name


def test_crowded_scores_are_owned_up_to() -> None:
    maps, masks = images(3)
    crowded = 1.0 / (1.0 + np.exp(-12.0 - maps.astype(np.float64)))
    assert histogram_of(crowded, masks).bounds()["auroc"] > 1e-3
    assert histogram_of(maps, masks).bounds()["auroc"] < 1e-3


def test_images_stream_and_histograms_merge_in_any_order() -> None:
    maps, masks = images(4)
    whole = histogram_of(maps, masks)
    one, other = PixelHistogram(), PixelHistogram()
    for i in (5, 0, 3):
        one.update(maps[i], masks[i])
    for i in (2, 4, 1):
        other.update(maps[i], masks[i])
    other.merge(one)
    assert other.images == whole.images == 6
    assert other.shift == whole.shift
    assert other.normal.sum() == whole.normal.sum()
    assert streamed(other) == pytest.approx(streamed(whole), abs=1e-12)


def test_bins_are_joined_when_room_is_short_and_nothing_is_lost() -> None:
    rng = np.random.default_rng(8)
    # All exponents and both signs: as coarse as it gets, 20 bits.
    maps = (rng.normal(size=(4, 64, 64)) * 10.0 ** rng.uniform(-37, 37, (4, 64, 64))).astype(
        np.float32
    )
    masks = np.zeros(maps.shape, dtype=np.uint8)
    masks[:2, 10:30, 10:30] = 1
    wide, narrow = histogram_of(maps, masks), histogram_of(*images(9))
    assert narrow.shift == FINEST
    assert FINEST < wide.shift <= 32 - int(np.log2(SLOTS * BLOCK))
    assert wide.normal.sum() + wide.defect.sum() == maps.size
    assert wide.regions.sum() == pytest.approx(2.0)
    assert streamed(wide) == pytest.approx(exact(maps, masks), abs=2e-3)
    for one, other in ((wide, narrow), (narrow, wide)):
        merged = PixelHistogram()
        merged.merge(one)
        merged.merge(other)
        assert merged.defect.sum() == wide.defect.sum() + narrow.defect.sum()
        assert merged.regions.sum() == pytest.approx(wide.regions.sum() + narrow.regions.sum())
        assert merged.shift >= wide.shift


def test_a_constant_map_and_a_single_region() -> None:
    masks = np.zeros((2, 16, 16), dtype=np.uint8)
    masks[0, 3:9, 4:7] = 1
    flat = histogram_of(np.full(masks.shape, 0.25, dtype=np.float32), masks)
    assert flat.auroc() == 0.5
    assert flat.pro(0.3) == pytest.approx(0.15)
    perfect = histogram_of(masks.astype(np.float32), masks)
    assert streamed(perfect) == pytest.approx(dict.fromkeys(exact(masks, masks), 1.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_scores_are_refused_and_nothing_of_the_call_is_counted(bad: float) -> None:
    maps, masks = images(5)
    maps[4, 2, 2] = bad
    histogram = PixelHistogram()
    with pytest.raises(UserError, match="NaN or infinite"):
        histogram.update(maps, masks)
    assert histogram.images == 0
    assert not histogram.normal.any()
    with pytest.raises(UserError, match="beyond float32"):
        histogram.update(np.full((4, 4), 1e300), np.zeros((4, 4)))
    with pytest.raises(UserError, match="expected the same"):
        histogram.update(maps[:2], masks[:3])
    with pytest.raises(UserError, match="expected 0 and one other value"):
        histogram.update(np.zeros((2, 2)), np.array([[0, 1], [2, 0]]))


def test_one_class_is_undefined_and_an_empty_batch_is_nothing() -> None:
    histogram = PixelHistogram()
    histogram.update(np.zeros((0, 8, 8), dtype=np.float32), np.zeros((0, 8, 8)))
    with pytest.raises(UndefinedMetric, match="no mask holds a defect pixel"):
        histogram.auroc()
    histogram.update(np.zeros((8, 8), dtype=np.float32), np.ones((8, 8)))
    with pytest.raises(UndefinedMetric, match="no normal example"):
        histogram.pro()


def test_ten_million_pixels_in_little_time_and_a_small_state() -> None:
    rng = np.random.default_rng(6)
    maps = rng.random((153, 256, 256), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=np.uint8)
    masks[:70, 100:140, 60:90] = 1
    began = time.process_time()
    histogram = PixelHistogram()
    for start in range(0, len(maps), 16):
        histogram.update(maps[start : start + 16], masks[start : start + 16])
    streamed(histogram)
    assert maps.size > 10_000_000
    assert time.process_time() - began < 1.5
    assert histogram.nbytes < 32 << 20
