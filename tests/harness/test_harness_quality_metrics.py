"""Laws of FID, KID and clustered LPIPS, on features that are passed in."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import linalg

from harness.metrics import clustered_lpips, fid, kid
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import UndefinedMetric


def features(seed: int, n: int, d: int = 8, shift: float = 0.0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ np.random.default_rng(99).normal(size=(d, d)) + shift


def textbook_fid(x: Any, y: Any) -> float:
    root = linalg.sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False))
    trace = np.trace(np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root.real)
    return float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + trace)


@pytest.mark.parametrize(("n", "d"), [(5, 64), (40, 64), (300, 8)])
def test_fid_of_identical_sets_is_exactly_0(n: int, d: int) -> None:
    x = features(0, n, d)
    assert fid.compute(x, x) == 0.0
    assert fid.compute(x, x[np.random.default_rng(1).permutation(n)]) == 0.0
    assert fid.compute(x * 1e6, x * 1e6) == 0.0
    dead = np.concatenate([x, np.zeros((n, 3))], axis=1)  # channels that never fire
    assert fid.compute(dead, dead) == 0.0


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (20, 200, 8), (6, 9, 40), (60, 20, 50)])
def test_fid_is_symmetric_and_the_textbook_formula(n: int, m: int, d: int) -> None:
    x, y = features(1, n, d), features(2, m, d, shift=0.5)
    value = fid.compute(x, y)
    assert value == pytest.approx(fid.compute(y, x), rel=1e-9)
    if min(n, m) > d:  # sqrtm needs covariances of full rank
        assert value == pytest.approx(textbook_fid(x, y), rel=1e-8)
    moments = []
    for part in (x, y):
        moments.append(fid.Moments(d))
        moments[-1].update(part)
    assert value == pytest.approx(fid.from_moments(*moments), rel=1e-6)


def test_fid_of_two_gaussians_has_a_closed_form() -> None:
    # Sets whose sample moments are exactly chosen: |mu1 - mu2|^2 + sum (s1 - s2)^2.
    raw = np.random.default_rng(3).normal(size=(50, 4))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    one, two = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 2.0, 1.5, 1.0])
    value = fid.compute(white * one + 1.0, white * two - 1.0)
    assert value == pytest.approx(4 * 2.0**2 + ((one - two) ** 2).sum(), rel=1e-10)


def test_moments_stream_and_merge() -> None:
    x = features(4, 101, 6) + 1000.0  # far from 0: sums of squares would lose digits
    whole, first, second = (fid.Moments(6) for _ in range(3))
    whole.update(x)
    for block in np.array_split(x[:60], 7):
        first.update(block)
    second.update(x[60:])
    first.merge(second)
    first.merge(fid.Moments(6))
    assert first.count == 101
    assert np.allclose(first.scatter / 100, np.cov(x, rowvar=False), rtol=1e-9)
    assert np.allclose(first.mean, x.mean(axis=0), rtol=1e-12)
    with pytest.raises(UserError, match=r"expected \(N, 6\)"):
        first.update(np.zeros((3, 5)))


def test_fid_refuses_what_has_no_value() -> None:
    x = features(0, 5)
    with pytest.raises(UndefinedMetric, match="two images"):
        fid.compute(x[:1], x)
    with pytest.raises(UserError, match="expected"):
        fid.compute(x, x[:, :3])
    with pytest.raises(UserError, match="NaN"):
        fid.compute(np.where(x > 0, np.nan, x), x)


def test_kid_is_the_unbiased_definition() -> None:
    x, y = features(5, 9), features(6, 7, shift=0.3)

    def k(a: Any, b: Any) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    within_x = np.mean([k(a, b) for a, b in combinations(x, 2)])
    within_y = np.mean([k(a, b) for a, b in combinations(y, 2)])
    between = np.mean([k(a, b) for a in x for b in y])
    assert kid.compute(x, y) == pytest.approx(within_x + within_y - 2 * between, rel=1e-10)
    assert kid.compute(x, y) == pytest.approx(kid.compute(y, x), rel=1e-10)


def test_kid_is_unbiased_where_fid_is_not() -> None:
    rng = np.random.default_rng(0)
    draws = [(rng.normal(size=(20, 32)), rng.normal(size=(20, 32))) for _ in range(60)]
    kids = np.array([kid.compute(x, y) for x, y in draws])
    assert abs(kids.mean()) < 3 * kids.std() / np.sqrt(len(kids))
    assert kids.min() < 0 < kids.max()
    assert min(fid.compute(x, y) for x, y in draws) > 1.0


def test_kid_subsets_are_seeded_and_near_the_full_value() -> None:
    x, y = features(7, 300), features(8, 250, shift=0.4)
    full = kid.compute(x, y)
    estimate = kid.compute(x, y, full=100, subsets=60, subset_size=80)
    assert estimate == kid.compute(x, y, full=100, subsets=60, subset_size=80)
    assert estimate != kid.compute(x, y, full=100, subsets=60, subset_size=80, seed=1)
    assert estimate == pytest.approx(full, rel=0.25)
    # A subset is never asked to be larger than its set.
    assert np.isfinite(kid.compute(x[:5], y, full=10, subset_size=1000))
    with pytest.raises(UndefinedMetric, match="two images"):
        kid.compute(x[:1], y)


def brute_clustered(synthetic: Any, real: Any) -> float:
    clusters: dict[int, list[Any]] = {}
    for row in synthetic:
        clusters.setdefault(int(((real - row) ** 2).sum(axis=1).argmin()), []).append(row)
    means = [
        np.mean([((a - b) ** 2).sum() for a, b in combinations(members, 2)])
        for members in clusters.values()
        if len(members) > 1
    ]
    return float(np.mean(means))


def test_clustered_lpips_is_the_mean_over_pairs_and_clusters() -> None:
    synthetic, real = features(9, 40), features(10, 6)
    expected = brute_clustered(synthetic, real)
    assert clustered_lpips.compute(synthetic, real) == pytest.approx(expected, rel=1e-10)


def test_clustered_lpips_streams_and_merges() -> None:
    synthetic, real = features(11, 50), features(12, 5)
    whole, first, second = (clustered_lpips.Clusters(real) for _ in range(3))
    whole.update(synthetic)
    first.update(synthetic[:17])
    second.update(synthetic[17:40])
    second.update(synthetic[40:])
    first.merge(second)
    assert first.result().value == pytest.approx(whole.result().value, rel=1e-12)
    assert first.result().sizes == whole.result().sizes
    with pytest.raises(UserError, match="different real anomalies"):
        first.merge(clustered_lpips.Clusters(real + 1))


def test_duplicates_give_0_and_more_spread_gives_more() -> None:
    real = np.array([[0.0, 0.0], [100.0, 0.0]])
    copies = np.repeat([[0.1, 0.7], [99.3, 0.2]], 5, axis=0)
    assert clustered_lpips.compute(copies, real) == 0.0
    rng = np.random.default_rng(0)
    noise = rng.normal(size=copies.shape)
    values = [clustered_lpips.compute(copies + s * noise, real) for s in (0.1, 0.5, 2.0)]
    assert values == sorted(values)
    assert values[1] == pytest.approx(25 * values[0], rel=1e-9)  # LPIPS is a squared distance


def test_small_clusters_are_skipped_and_counted() -> None:
    real = np.array([[0.0], [10.0], [20.0], [30.0]])
    synthetic = np.array([[0.0], [1.0], [9.0], [21.0], [19.0]])
    clusters = clustered_lpips.Clusters(real)
    assert clusters.update(synthetic).tolist() == [0, 0, 1, 2, 2]
    result = clusters.result()
    assert (result.clusters, result.single, result.empty) == (2, 1, 1)
    assert result.sizes == (2, 1, 2, 0)
    assert result.value == pytest.approx((1.0 + 4.0) / 2)
    with pytest.raises(UndefinedMetric, match="none of 4 clusters"):
        clustered_lpips.compute(synthetic[2:4], real)
    with pytest.raises(UndefinedMetric, match="no real anomaly"):
        clustered_lpips.compute(synthetic, real[:0])
    with pytest.raises(UserError, match="do not match"):
        clustered_lpips.compute(np.zeros((2, 3)), real)


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
