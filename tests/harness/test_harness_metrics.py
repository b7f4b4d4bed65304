"""Laws of the detection metrics, and brute-force oracles that know no sorting."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from harness import metrics
from harness.metrics import image_ap, image_auroc, pixel_ap, pixel_auroc, pro, pro_legacy_realnet
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import UndefinedMetric
from sia_gen.core.statistics.ranking import Ranking, rank

PIXEL = (pixel_auroc, pixel_ap, pro)


def brute_auroc(scores: Any, labels: Any) -> float:
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in np.asarray(scores)[np.asarray(labels)]
        for n in np.asarray(scores)[~np.asarray(labels)]
    ]
    return float(np.mean(pairs))


def brute_curve(scores: Any, weights: Any, negatives: Any) -> tuple[list[float], list[float]]:
    x, y = [0.0], [0.0]
    for threshold in sorted({*scores.tolist(), *negatives.tolist()}, reverse=True):
        x.append(float((negatives >= threshold).mean()))
        y.append(float(weights[scores >= threshold].sum() / weights.sum()))
    return x, y


def brute_pro(maps: Any, masks: Any, limit: float) -> float:
    """Sweeps every distinct score and relabels nothing cleverly: the definition, slowly."""
    scores, weights = [], []
    for map_HW, mask_HW in zip(maps, masks, strict=True):
        labels, regions = ndimage.label(mask_HW, np.ones((3, 3)))
        for region in range(1, regions + 1):
            inside = map_HW[labels == region]
            scores += inside.tolist()
            weights += [1.0 / len(inside)] * len(inside)
    x, y = brute_curve(np.array(scores), np.array(weights), maps[masks == 0].astype(np.float64))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(
        zip(x, y, strict=True), list(zip(x, y, strict=True))[1:], strict=False
    ):
        if x0 >= limit:
            break
        if x1 > limit:
            y1, x1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0), limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def case(seed: int, levels: int | None = 7, size: int = 12) -> tuple[Any, Any]:
    """Maps with many ties and masks with several regions, some with holes."""
    rng = np.random.default_rng(seed)
    maps = rng.random((3, size, size), dtype=np.float32)
    if levels:
        maps = np.floor(maps * levels).astype(np.float32)
    masks = (ndimage.gaussian_filter(rng.random((3, size, size)), (0, 1.2, 1.2)) > 0.52).astype(
        np.uint8
    )
    masks[0, 1:6, 1:6] = 1
    masks[0, 2:5, 2:5] = 0
    masks[2] = 0
    return maps, masks


# Law 8: AUROC.


def test_auroc_perfect_inverted_constant() -> None:
    labels = np.array([False, False, True, True, True])
    assert image_auroc.compute([0, 1, 2, 3, 4], labels) == 1.0
    assert image_auroc.compute([4, 3, 2, 1, 0], labels) == 0.0  # no flip
    assert image_auroc.compute([7, 7, 7, 7, 7], labels) == 0.5
    assert image_ap.compute([0, 1, 2, 3, 4], labels) == 1.0
    assert image_ap.compute([7, 7, 7, 7, 7], labels) == pytest.approx(0.6)  # the share of positives


@settings(max_examples=80, deadline=None)
@given(
    scores=hnp.arrays(np.float32, 14, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, -2.0])),
    labels=hnp.arrays(np.bool_, 14),
)
def test_auroc_is_the_rank_sum(scores: Any, labels: Any) -> None:
    if labels.all() or not labels.any():
        with pytest.raises(UndefinedMetric, match="undefined"):
            image_auroc.compute(scores, labels)
        return
    expected = brute_auroc(scores, labels)
    assert image_auroc.compute(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert image_auroc.compute(-scores, labels) == pytest.approx(1 - expected, abs=1e-12)
    assert image_auroc.compute(scores[::-1], labels[::-1]) == image_auroc.compute(scores, labels)


def test_average_precision_by_hand() -> None:
    # Thresholds 4: precision 1/1, recall 1/3; 3 (a tie): 2/3, recall 2/3; 1: 3/5, recall 1.
    scores, labels = [4, 3, 3, 2, 1], [True, True, False, False, True]
    expected = (1 / 3) * (1 / 1) + (1 / 3) * (2 / 3) + (1 / 3) * (3 / 5)
    assert image_ap.compute(scores, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
def test_every_number_type_gives_the_same(dtype: type) -> None:
    maps, masks = case(3)
    for metric in PIXEL:
        expected = metric.compute(maps, masks)
        assert metric.compute(maps.astype(dtype), masks) == expected
        assert metric.compute(maps.astype(dtype), masks * 255) == expected


# Law 9: PRO.


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [None, 2, 7])
def test_pro_equals_the_definition(seed: int, levels: int | None) -> None:
    maps, masks = case(seed, levels)
    for limit in (0.05, 0.3, 1.0):
        assert pro.compute(maps, masks, limit=limit) == pytest.approx(
            brute_pro(maps, masks, limit), abs=1e-10
        )


@pytest.mark.parametrize("seed", range(4))
def test_pixel_auroc_equals_the_definition(seed: int) -> None:
    maps, masks = case(seed)
    expected = brute_auroc(maps.ravel(), masks.ravel() > 0)
    assert pixel_auroc.compute(maps, masks) == pytest.approx(expected, abs=1e-12)


def test_pro_by_hand() -> None:
    # One row of ten normal pixels, two regions of one and of two pixels. From the highest score:
    # region A whole (0.5), one normal (FPR 0.1), half of B (0.75), one normal (0.2), rest of B (1).
    mask = np.zeros((1, 3, 13), dtype=np.uint8)
    mask[0, 0, 0] = 1
    mask[0, 0, 11:13] = 1
    scores = np.zeros((1, 3, 13))
    scores[0, 0, 0], scores[0, 1, 5], scores[0, 0, 11] = 9, 8, 7
    scores[0, 2, 5], scores[0, 0, 12] = 6, 5
    normal = 36
    limit = 2 / normal
    by_hand = (0.5 / normal + 0.75 / normal) / limit
    assert pro.compute(scores, mask, limit=limit) == pytest.approx(by_hand, abs=1e-12)
    # Half-way through the last tie group the curve is interpolated: all other scores tie at 0.
    assert pro.compute(scores, mask, limit=0.3) == pytest.approx(
        (0.5 / normal + 0.75 / normal + (0.3 - 2 / normal)) / 0.3, abs=1e-12
    )


def test_pro_of_a_perfect_map_is_1_also_with_holes() -> None:
    mask = np.zeros((2, 16, 16), dtype=np.uint8)
    mask[0, 2:10, 2:10] = 1
    mask[0, 4:8, 4:8] = 0  # a ring
    assert pro.compute(mask.astype(np.float32), mask) == 1.0
    assert 0.0 <= pro.compute(1.0 - mask, mask) < 1e-12
    # The legacy value of the same kind of map shows why it must not be ranked by.
    noisy = mask + np.linspace(0, 0.5, mask.size).reshape(mask.shape)
    noisy[0, 4:8, 4:8] = 2.0
    assert pro_legacy_realnet.compute(noisy, mask) > 1.0


def test_pro_weighs_defects_alike_whatever_their_area() -> None:
    mask = np.zeros((2, 32, 32), dtype=np.uint8)
    mask[0, :20, :20] = 1
    mask[1, 30, 30] = 1
    large, small = np.zeros((2, 32, 32)), np.zeros((2, 32, 32))
    large[0, :20, :20] = 1.0
    small[1, 30, 30] = 1.0
    assert pro.compute(large, mask) == pytest.approx(pro.compute(small, mask), abs=1e-12)
    # A diagonal neighbour belongs to the same region: 8-connectivity.
    joined = np.zeros((1, 8, 8), dtype=np.uint8)
    joined[0, 2, 2] = joined[0, 3, 3] = 1
    half = np.zeros((1, 8, 8))
    half[0, 2, 2] = 1.0
    normal = 62
    assert pro.compute(half, joined, limit=1 / normal) == pytest.approx(
        0.5 + 0.5 * (1 / normal) / 2, abs=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), gain=st.sampled_from([0.25, 2.0, 8.0]))
def test_increasing_maps_of_the_scores_change_nothing(seed: int, gain: float) -> None:
    maps, masks = case(seed)
    for metric in PIXEL:
        value = metric.compute(maps, masks)
        assert 0.0 <= value <= 1.0
        assert metric.compute(maps * np.float32(gain) + 3, masks) == value
        assert metric.compute(np.exp(maps.astype(np.float64)), masks) == value
        assert metric.compute(maps[::-1], masks[::-1]) == pytest.approx(value, abs=1e-12)


def test_one_region_and_constant_maps() -> None:
    mask = np.zeros((1, 10, 10), dtype=np.uint8)
    mask[0, 3:6, 3:6] = 1
    flat = np.full((1, 10, 10), 4.5, dtype=np.float32)
    assert pixel_auroc.compute(flat, mask) == 0.5
    assert pixel_ap.compute(flat, mask) == pytest.approx(0.09)
    assert pro.compute(flat, mask, limit=0.3) == pytest.approx(0.15)  # the diagonal, cut at 0.3
    with pytest.raises(UndefinedMetric):
        pro_legacy_realnet.compute(flat, mask)


# Streaming.


def test_blocks_of_negatives_add_up_and_merge() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 20, 500).astype(np.float32), rng.random(500) < 0.2
    whole = rank(scores, labels)
    negatives = scores[~labels]
    parts = [Ranking(scores[labels]) for _ in range(2)]
    for part, half in zip(parts, (negatives[:100], negatives[100:]), strict=True):
        for start in range(0, len(half), 37):
            part.add_negatives(half[start : start + 37])
    parts[1].merge(parts[0])
    assert parts[1].area() == whole.area()
    assert parts[1].average_precision() == whole.average_precision()
    with pytest.raises(UserError, match="different positives"):
        parts[0].merge(Ranking(np.array([1.0, 99.0])))


def test_blocks_in_rank_pixels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = case(5, levels=None)
    expected = [metric.compute(maps, masks) for metric in PIXEL]
    monkeypatch.setattr("sia_gen.core.statistics.pixels.BLOCK", 1)
    masks[1:, 2:] = 0  # few defect pixels, so that blocks are small
    few = [metric.compute(maps, masks) for metric in PIXEL]
    monkeypatch.undo()
    assert few == [metric.compute(maps, masks) for metric in PIXEL]
    assert expected != few


def test_memory_mapped_maps_are_read_image_by_image(tmp_path: Any) -> None:
    maps, masks = case(8)
    np.save(tmp_path / "maps.npy", maps)
    mapped = np.load(tmp_path / "maps.npy", mmap_mode="r")
    assert pro.compute(mapped, masks) == pro.compute(maps, masks)


def test_regions_of_one_area_weigh_like_their_pixels() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((20, 64, 64), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=np.uint8)
    masks[:, 10:30, 20:40] = 1
    expected = rank(maps, masks != 0).area(0.3)
    assert pro.compute(maps, masks) == pytest.approx(expected, abs=1e-12)


# Bad input: named and refused.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    maps, masks = case(0)
    maps[1, 2, 3] = bad
    for metric in (*PIXEL, pro_legacy_realnet):
        with pytest.raises(UserError, match="score map 1: 1 of 144 values are NaN or infinite"):
            metric.compute(maps, masks)
    for image_metric in (image_auroc, image_ap):
        with pytest.raises(UserError, match="image scores: 1 of 3"):
            image_metric.compute([0.0, bad, 1.0], [True, False, True])


def test_shapes_that_do_not_match_are_refused() -> None:
    maps, masks = case(0)
    for metric in (*PIXEL, pro_legacy_realnet):
        with pytest.raises(UserError, match=r"\(3, 12, 12\) and masks \(3, 12, 11\)"):
            metric.compute(maps, masks[:, :, :-1])
        with pytest.raises(UserError, match="expected the same"):
            metric.compute(maps[0], masks[0])
    with pytest.raises(UserError, match="do not match"):
        image_auroc.compute([1.0, 2.0], [True, False, True])


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_only_is_undefined_not_0(value: int) -> None:
    maps, masks = case(0)
    for metric in PIXEL:
        with pytest.raises(UndefinedMetric, match="undefined"):
            metric.compute(maps, np.full_like(masks, value))
    for image_metric in (image_auroc, image_ap):
        with pytest.raises(UndefinedMetric, match="undefined"):
            image_metric.compute([1.0, 2.0], [value, value])
    with pytest.raises(UndefinedMetric):
        pixel_auroc.compute(np.zeros((0, 4, 4)), np.zeros((0, 4, 4)))


def test_labels_and_masks_must_be_binary() -> None:
    maps, masks = case(0)
    masks[0, 0, :3] = (0, 1, 2)
    with pytest.raises(UserError, match="mask 0: expected 0 and one other value"):
        pro.compute(maps, masks)
    with pytest.raises(UserError, match="expected numbers"):
        image_auroc.compute(["a", "b"], [True, False])  # type: ignore[list-item]
    for limit in (0.0, -1.0, 1.5, np.nan):
        with pytest.raises(UserError, match="limit"):
            pro.compute(*case(0), limit=limit)


# The seam.


def test_every_metric_is_a_plugin() -> None:
    assert set(metrics.names()) >= {
        "image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pro", "pro_legacy_realnet", "fid",
        "kid", "clustered_lpips",
    }  # fmt: skip
    for name in metrics.names():
        metric = metrics.load(name)
        assert metric.title and metric.short and metric.unit in {"%", "1", "distance"}
        assert metric.kind in metrics.KINDS and metric.version >= 1
    columns = metrics.columns()
    assert len(columns) == sum(len(metrics.load(name).variants) for name in metrics.names())
    assert len({(c.short, c.metric.kind) for c in columns.values()}) == len(columns)
    with pytest.raises(UserError, match="Did you mean pro"):
        metrics.load("proo")


def test_import_loads_no_torch() -> None:
    code = (
        "import sys, harness.metrics, sia_gen.core.plugins as p\n"
        "for n in p.names(harness.metrics): p.load(harness.metrics, n)\n"
        "bad = {'torch', 'ray', 'diffusers', 'torchmetrics', 'click'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
