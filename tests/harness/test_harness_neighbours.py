"""Density, coverage, memorisation and the strength curve: laws by hand and by brute force."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shard_files import write_record, write_tar

from harness.metrics import coverage, density, memorisation
from harness.quality import run as quality
from harness.quality import strength
from harness.quality.nearest import closest_pairs
from sia_gen.core.pixels.images import read_image
from sia_gen.core.statistics.inputs import UndefinedMetric
from sia_gen.core.store.shards import Synthetic, find_shards, read_record

RNG = np.random.default_rng(3)


def brute(x: Any, y: Any, k: int) -> tuple[float, float]:
    def far(a: Any, b: Any) -> float:
        return float(np.sqrt(((a - b) ** 2).sum()))

    reach = [sorted(far(a, b) for j, b in enumerate(y) if j != i)[k - 1] for i, a in enumerate(y)]
    inside = [[far(a, b) <= r for b, r in zip(y, reach, strict=True)] for a in x]
    return float(np.sum(inside)) / (k * len(x)), float(np.mean(np.any(inside, axis=0)))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_density_and_coverage_are_the_definition(k: int) -> None:
    x, y = RNG.normal(size=(40, 6)), RNG.normal(0.3, 1.1, size=(25, 6))
    expected = brute(x, y, k)
    assert density.compute(x, y, k=k) == pytest.approx(expected[0], abs=1e-12)
    assert coverage.compute(x, y, k=k) == expected[1]


def test_alike_sets_are_dense_and_covered_and_far_ones_are_not() -> None:
    y = RNG.normal(size=(300, 4))
    assert density.compute(RNG.normal(size=(300, 4)), y) == pytest.approx(1.0, abs=0.15)
    assert coverage.compute(RNG.normal(size=(300, 4)), y) > 0.9
    assert density.compute(y + 100.0, y) == coverage.compute(y + 100.0, y) == 0.0
    one_mode = np.repeat(y[:1], 300, axis=0)
    assert coverage.compute(one_mode, y) < 0.2  # copies of one image meet few others


def test_copies_are_memorised_and_far_images_are_not() -> None:
    train, held_out = RNG.normal(size=(60, 8)), RNG.normal(size=(40, 8))
    assert memorisation.compute(train[:30], train, held_out) == 1.0
    assert memorisation.compute(train + 50.0, train, held_out) == 0.0
    assert memorisation.compute(held_out, train, held_out) == 0.5
    fresh = memorisation.compute(RNG.normal(size=(400, 8)), train, RNG.normal(size=(400, 8)))
    assert fresh == pytest.approx(0.5, abs=0.1)


def test_what_is_too_few_is_undefined() -> None:
    for module in (density, coverage):
        with pytest.raises(UndefinedMetric, match="need a synthetic and 6 real images"):
            module.compute(np.zeros((3, 2)), np.zeros((5, 2)))
    with pytest.raises(UndefinedMetric, match="held-out normal images"):
        memorisation.compute(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((0, 2)))


def test_the_closest_pairs_come_first() -> None:
    train = RNG.normal(size=(20, 5)).astype(np.float32)
    synthetic = train[[7, 3, 11]] + np.array([[0.2], [0.0], [0.1]], dtype=np.float32)
    pairs = closest_pairs(synthetic, train, 2)
    assert [(p.synthetic, p.train) for p in pairs] == [(1, 3), (2, 11)]
    assert pairs[0].distance == 0.0


def test_bins_of_strength_are_even_and_rising() -> None:
    assert [len(b) for b in strength.bins_of([0.1] * 9)] == [9]
    values: list[float | None] = list(RNG.random(18))
    bins = strength.bins_of(values)
    assert sorted(len(b) for b in bins) == [4, 4, 5, 5]
    highs = [max(values[i] or 0 for i in b) for b in bins]
    assert highs == sorted(highs)
    assert strength.bins_of([0.1, None]) == []
    assert len(strength.bins_of([0.1, 0.2, 0.3])) == 1


@pytest.fixture
def copied(small_dataset: Path, make_shards: Callable[..., Path]) -> tuple[Path, Path]:
    """A run whose images are training images, each with its strength."""
    run = make_shards()
    (tar,) = find_shards(run, "small/bolt")
    record = dict(read_record(tar) or {})
    samples = [
        Synthetic(
            key=f"{i:05}",
            image=read_image(small_dataset / "bolt" / "train" / "good" / f"{i % 12}.png"),
            metadata={"index": i, "strength": 0.1 + 0.01 * i},
        )
        for i in range(16)
    ]
    write_record(tar, record | write_tar(tar, samples))
    return run, small_dataset


def test_a_run_of_copies_is_found_out_with_pictures(
    copied: tuple[Path, Path], tmp_path: Path
) -> None:
    run, data = copied
    results = tmp_path / "results"
    (record,) = quality.run(
        run, str(data), "bolt", [("tiny-random", None)], results, quality.Options()
    )
    assert record["metrics"]["memorisation@tiny-random"]["value"] == 1.0
    assert record["metrics"]["memorisation@tiny-random"]["n"] == [16, 12, 5]
    nearest = record["artifacts"]["nearest"]
    assert len(nearest) == 6
    assert nearest[0]["distance"] == pytest.approx(0.0, abs=1e-4)
    assert nearest[0]["train"] == f"{int(nearest[0]['synthetic']) % 12}.png"
    with Image.open(results / nearest[0]["file"]) as picture:
        assert np.asarray(picture)[:, -140:].max() < 16  # the difference of copies is black
    points = record["artifacts"]["strength"]
    assert [p["n"] for p in points] == [4, 4, 4, 4]
    assert points[0]["low"] == pytest.approx(0.1)
    assert points[-1]["high"] == pytest.approx(0.25)
    assert all(np.isfinite(p["kid"]) for p in points)


def test_without_normal_test_images_it_is_undefined(
    copied: tuple[Path, Path], tmp_path: Path
) -> None:
    run, data = copied
    shutil.rmtree(data / "bolt" / "test" / "good")
    (record,) = quality.run(
        run, str(data), "bolt", [("tiny-random", None)], tmp_path / "r", quality.Options()
    )
    assert record["metrics"]["memorisation@tiny-random"]["value"] is None
    assert record["metrics"]["density@tiny-random"]["reason"]  # five anomalies are too few for k 5
