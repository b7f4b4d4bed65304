"""Training batches: a function of seed and step, half normal, never a look at test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.data.batches import Batch, Batches
from detector.data.normals import NormalImages
from detector.data.source import check_category, sources
from detector.data.task import single
from detector.options import TrainOptions
from detector.run_folder import split_training
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.store.shards import find_shards


def stream(category: Category, tars: list[Path], seed: int = 0) -> Batches:
    normals = NormalImages([(category.train, category.foreground)], 32)
    options = TrainOptions(steps=1, resolution=32, methods={"sdas": {}})
    return Batches(normals, sources(options, single(category, tars), normals), 8, seed)


def equal(a: Batch, b: Batch) -> bool:
    pairs = ((a.images, b.images), (a.masks, b.masks), (a.normal, b.normal))
    return all(np.array_equal(x, y) for x, y in pairs)


def test_batch_is_a_function_of_seed_and_step(stripes: Category, generated: Path) -> None:
    tars = find_shards(generated)
    one, other = stream(stripes, tars), stream(stripes, tars)
    forward = [one.batch(k) for k in range(6)]
    backward = [other.batch(k) for k in reversed(range(6))]
    assert all(equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not equal(forward[0], forward[1])
    assert not equal(forward[0], stream(stripes, tars, seed=1).batch(0))
    # The thread that makes batches ahead hands out the same ones, from any position on.
    ahead = list(stream(stripes, tars).stream(2, 6))
    assert all(equal(a, b) for a, b in zip(forward[2:], ahead, strict=True))


def test_half_of_a_batch_is_normal_and_an_epoch_sees_every_image(
    stripes: Category, generated: Path
) -> None:
    one = stream(stripes, find_shards(generated))
    made = [one.batch(k) for k in range(3)]  # 24 normal images in batches of 8
    assert all(len(b.images) == 4 and len(b.normal) == 8 for b in made)
    assert sorted(int(i) for b in made for i in b.normal) == list(range(24))
    for batch in made:
        normal = one.normals.stack(batch.normal[:4])
        for image, plain, mask in zip(batch.images, normal, batch.masks, strict=True):
            assert np.array_equal(image[~mask], plain[~mask])
    assert any(b.masks.any() for b in made)


def test_ranks_share_a_batch_without_overlap(stripes: Category, generated: Path) -> None:
    one = stream(stripes, find_shards(generated))
    whole = one.batch(5)
    parts = [one.batch(5, rank, 2) for rank in range(2)]
    assert all(len(p.images) == 2 and len(p.normal) == 4 for p in parts)
    together = sorted(int(i) for p in parts for i in p.normal)
    assert together == sorted(int(i) for i in whole.normal)
    assert np.array_equal(np.concatenate([p.images for p in parts]), whole.images)


def test_foreign_shards_are_refused_unless_allowed(generated: Path) -> None:
    tars = find_shards(generated)
    check_category(tars, "line/stripes", allow_foreign=False)
    with pytest.raises(UserError, match=r"line/stripes, not of line/other.*--allow-foreign-shards"):
        check_category(tars, "line/other", allow_foreign=False)
    check_category(tars, "line/other", allow_foreign=True)


def test_holdout_is_a_fixed_part_and_the_rest_trains(stripes: Category) -> None:
    used, held = split_training(stripes, 0.3)
    assert set(used) | set(held) == set(stripes.train) and not set(used) & set(held)
    assert 1 <= len(held) <= 14
    assert split_training(stripes, 0.3) == (used, held)
    assert split_training(stripes, 0.0) == (stripes.train, ())
    with pytest.raises(UserError, match="holds none out"):
        split_training(stripes, 0.0001)
