"""The plan: seeds and strengths by index, a fixed batch grid, and hashes of what decides bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gen_support as support
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.core.errors import UserError
from sia_gen.core.seeds import image_seed, image_strength
from sia_gen.generate.options import ExecutionOptions, RunOptions
from sia_gen.generate.recipe import Recipe, specs
from sia_gen.runs.spec import difference, remaining


@given(
    per_category=st.integers(1, 200), shard_size=st.integers(1, 50), batch_size=st.integers(1, 20)
)
def test_shards_and_batches_cover_each_image_once(
    per_category: int, shard_size: int, batch_size: int
) -> None:
    recipe = support.recipe(per_category=per_category, shard_size=shard_size, batch_size=batch_size)
    planned = specs(recipe)
    for category in recipe.categories:
        mine = [spec for spec in planned if spec.category == category]
        batches = [batch for spec in mine for batch in spec.batches()]
        assert [index for batch in batches for index in batch] == list(range(per_category))
        assert all(len(batch) <= batch_size for batch in batches)
    assert len({spec.file for spec in planned}) == len(planned)
    assert recipe.images == sum(spec.count for spec in planned)


def test_seed_and_strength_belong_to_the_image_not_to_the_shard() -> None:
    small, large = support.plan(shard_size=4), support.plan(shard_size=20)
    for planned in (small, large):
        for spec in planned:
            for index in spec.indices():
                seed = image_seed(0, f"mini/{spec.category}", index)
                assert spec.image_seed(index) == seed
                assert spec.strength(seed) == image_strength(seed, 0.1, 0.2)
                assert 0.1 <= spec.strength(seed) <= 0.2


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"s_low": 0.05},
        {"s_high": 0.3},
        {"batch_size": 5},
        {"threads": 2},
        {"steps": 10},
        {"sampler": "ddim"},
        {"precision": "bf16"},
        {"checkpoint_sha256": "0" * 64},
        {"resolution": 32},
    ],
)
def test_what_changes_bytes_changes_the_hash(change: dict[str, object]) -> None:
    assert support.plan()[0].spec_hash != support.plan(**change)[0].spec_hash


def test_more_images_leave_the_full_shards_as_they_are() -> None:
    few = {spec.file: spec.spec_hash for spec in support.plan(per_category=16)}
    many = {spec.file: spec.spec_hash for spec in support.plan(per_category=24)}
    assert few.items() < many.items()


def test_sample_keys_are_safe_for_tar_readers() -> None:
    spec = replace(support.plan()[0], category="straße 1.5 %x" + "y" * 180)
    key = spec.sample_key(3)
    assert "." not in key and "/" not in key and key.isascii() and len(key) < 80


def test_remaining_is_everything_in_an_empty_folder_and_nothing_after(
    tmp_path: Path, finished: Path
) -> None:
    planned = support.plan()
    assert remaining(planned, tmp_path) == planned
    assert remaining(planned, finished) == []


def test_a_recipe_survives_json_and_refuses_unknown_fields() -> None:
    recipe = support.recipe()
    assert Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(UserError, match="surprise"):
        Recipe.from_json({**recipe.to_json(), "surprise": 1})


def test_difference_names_each_field() -> None:
    old, new = support.recipe().to_json(), support.recipe(seed=5, steps=7).to_json()
    assert difference(old, new) == ["seed: 0 -> 5", "steps: 20 -> 7"]
    assert difference(old, old) == []


def test_a_plan_of_too_many_shards_is_refused() -> None:
    with pytest.raises(UserError, match="shard-size"):
        specs(support.recipe(per_category=10_000_000, shard_size=1))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"s_low": 0.3}, "reversed"),
        ({"s_low": -0.1}, "at least 0"),
        ({"s_high": float("nan")}, "finite"),
        ({"s_high": float("inf")}, "finite"),
        ({"per_category": 0}, "per_category 0"),
        ({"batch_size": -1}, "batch_size -1"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed"),
        ({"sampler": "euler"}, "iddpm"),
    ],
)
def test_run_options_refuse_by_name(change: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        RunOptions(**{"out": "x", "per_category": 1, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"executor": "slurm"}, "ray, local"),
        ({"executor": "local", "workers": 4}, "--executor ray"),
        ({"executor": "local", "num_gpus": 1.0}, "--executor ray"),
        ({"workers": 0}, "workers 0"),
        ({"num_cpus": 0.0}, "num_cpus 0.0"),
        ({"num_gpus": -1.0}, "num_gpus -1"),
        ({"attempts": 0}, "attempts 0"),
        ({"deadline": 0.0}, "deadline 0.0"),
    ],
)
def test_execution_options_refuse_by_name(change: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        ExecutionOptions(**change)  # type: ignore[arg-type]
