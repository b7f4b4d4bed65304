"""Pairs grown in place as shards: the same at any batch, verified, found by their normal images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gen_support as support
import numpy as np
import pytest
from shard_files import write_record, write_tar

from detector.data.task import single
from detector.models import realnet
from detector.options import resolve
from detector.training.train import accelerator_for, train
from sia_gen.care.verify import verify
from sia_gen.core.context import context_of
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import resize_image
from sia_gen.core.seeds import generator
from sia_gen.core.store.shards import MASK, NORMAL, ShardReader, Synthetic, find_shards
from sia_gen.generate.contents import sdas_inplace
from sia_gen.generate.options import ExecutionOptions, SynthesisOptions
from sia_gen.generate.run import run
from sia_gen.methods.sdas_inplace import Options, add_change, build

FEW: dict[str, Any] = {"steps": 10, "afs_batches": 1, "holdout": 0.0, "precision": "fp32"}
LOCAL = ExecutionOptions(executor="local", device="cpu")
SETTINGS = {"s_range": (0.2, 1.0), "depth_range": (0.1, 0.3), "precision": "fp32", "force": True}


def options(out: Path, **changes: Any) -> SynthesisOptions:
    values: dict[str, Any] = {
        "method": "sdas-inplace",
        "out": str(out),
        "categories": "brick",
        "per_category": 5,
        "resolution": 64,
        "shard_size": 3,
        "normal": True,
        "settings": tuple(SETTINGS.items()),
    }
    return SynthesisOptions(**{**values, **changes})


def made(out: Path, **changes: Any) -> ShardReader:
    figures = run(sdas_inplace.prepare(options(out, **changes)), LOCAL)
    assert figures["images"] == 5
    return ShardReader(find_shards(out, "textures/brick"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ShardReader]:
    out = tmp_path_factory.mktemp("grown") / "run"
    return out, made(out)


def test_pairs_carry_their_normal_image_strength_depth_and_seed(
    pairs: tuple[Path, ShardReader],
) -> None:
    out, reader = pairs
    seen = set()
    for i in range(len(reader)):
        facts = reader.metadata(i)
        assert 0.2 <= facts["strength"] <= 1.0 and 0.1 <= facts["depth"] <= 0.3
        mask = reader.extra(i, MASK)[..., 0] > 127
        assert mask.any() and facts["mask_share"] == pytest.approx(mask.mean(), abs=1e-6)
        normal = reader.extra(i, NORMAL)
        np.testing.assert_array_equal(reader.image(i)[~mask], normal[~mask])
        seen.add(facts["normal"])
    assert len(seen) == 5  # every pair in another normal image while there are any
    assert not verify(out).problems


def test_the_same_pairs_come_from_any_batch_and_shard_size(
    pairs: tuple[Path, ShardReader], tmp_path: Path
) -> None:
    settings = tuple({**SETTINGS, "batch_size": 2}.items())
    other = made(tmp_path / "other", shard_size=5, settings=settings)
    for i in range(5):
        np.testing.assert_array_equal(other.image(i), pairs[1].image(i))
        assert other.metadata(i)["seed"] == pairs[1].metadata(i)["seed"]


def test_a_method_finds_pairs_by_their_normal_image(pairs: tuple[Path, ShardReader]) -> None:
    out, reader = pairs
    category = open_dataset("textures").one("textures/brick")
    tars = tuple(find_shards(out, "textures/brick"))
    used = {Path(reader.metadata(i)["normal"]).name for i in range(5)}
    train = tuple(path for path in category.train if path.name in used)
    context = context_of(replace(category, train=train), 64, tars)
    method = build(Options(), context)
    whole = np.ones((64, 64), np.bool_)
    for i in range(5):
        pair = method.pair(context.image(i), whole, generator(i))
        assert pair.mask.any()
        np.testing.assert_array_equal(pair.image[~pair.mask], context.image(i)[~pair.mask])
    with pytest.raises(UserError, match="normal images of textures/brick have no pair"):
        build(Options(), context_of(category, 64, tars))


def test_at_another_resolution_the_change_is_added_to_the_image_that_is_there(
    pairs: tuple[Path, ShardReader],
) -> None:
    out, reader = pairs
    category = open_dataset("textures").one("textures/brick")
    used = {Path(reader.metadata(i)["normal"]).name: i for i in range(5)}
    few = replace(category, train=tuple(p for p in category.train if p.name in used))
    own, twice = (context_of(few, side, tuple(find_shards(out, few.key))) for side in (64, 128))
    of_own, of_twice = build(Options(), own), build(Options(), twice)
    everywhere = np.ones((128, 128), dtype=np.bool_)
    for i in range(5):
        small = of_own.pair(own.image(i), everywhere[:64, :64], generator(0, i))
        large = of_twice.pair(twice.image(i), everywhere, generator(0, i))
        np.testing.assert_array_equal(large.normal, twice.image(i))
        np.testing.assert_array_equal(large.image[~large.mask], large.normal[~large.mask])
        np.testing.assert_array_equal(large.mask, small.mask.repeat(2, 0).repeat(2, 1))
        # The crop of 64 pixels, enlarged, with what was grown in it at 64, enlarged.
        expected = resize_image(small.image, 128).astype(float)
        assert np.abs(large.image - expected)[large.mask].max() <= 2  # of rounding
        assert (large.image != large.normal)[large.mask].mean() > 0.5
    region = np.zeros_like(everywhere)
    assert not of_twice.pair(twice.image(0), region, generator(0, 0)).mask.any()


def test_added_changes_leave_the_grain_of_the_larger_image() -> None:
    rng = generator("grain")
    before = rng.integers(60, 180, (32, 32, 3)).astype(np.uint8)
    after = before.copy()
    after[8:24, 8:24] += 40
    normal = rng.integers(60, 180, (128, 128, 3)).astype(np.uint8)
    found = add_change(normal, before, after).astype(int) - normal
    assert (found[40:88, 40:88] == 40).all() and (found[:24] == 0).all()
    assert (add_change(normal, before, before) == normal).all()
    assert add_change(np.full_like(normal, 250), before, after).max() == 255


def test_what_does_not_fit_is_told_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for changes, message in (
        ({"resolution": 256}, "give --resolution 64"),
        ({"settings": (("depth_range", (0.0, 0.5)),)}, "a depth is above 0"),
        ({"settings": (("depth_range", (0.5, 1.5)),)}, "depth_range"),
        ({"settings": (("model", "nothing"),)}, "neither a folder nor a shipped model"),
        ({"shards": "runs/sia"}, "takes a --model"),
    ):
        with pytest.raises(UserError, match=message):
            sdas_inplace.prepare(options(out, **changes))
    assert not out.exists()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_the_bytes_are_the_same(pairs: tuple[Path, ShardReader], tmp_path: Path) -> None:
    on_ray = ExecutionOptions(workers=1, device="cpu")
    run(sdas_inplace.prepare(options(tmp_path / "run")), on_ray)
    assert support.tar_hashes(tmp_path / "run") == support.tar_hashes(pairs[0])
    assert not verify(tmp_path / "run").problems


def test_a_detector_learns_from_them_and_from_mixtures(
    pairs: tuple[Path, ShardReader], tmp_path: Path
) -> None:
    out, reader = pairs
    category = open_dataset("textures").one("textures/brick")
    used = {Path(reader.metadata(i)["normal"]).name for i in range(5)}
    few = replace(category, train=tuple(p for p in category.train if p.name in used))
    both = tmp_path / "both"
    both.mkdir()
    (both / "grown").symlink_to(out / "shards")
    whole = [Synthetic(key=f"s{i}", image=reader.image(i), metadata={}) for i in range(4)]
    tar = both / "sia" / "whole.tar"
    write_record(tar, {"category": few.key, **write_tar(tar, whole)})
    for source, folder, side in (
        ("sdas-inplace", out, 64), ("sdas:0.5,sdas-inplace:0.5", both, 64),
        ("sdas-inplace", out, 128),
    ):  # fmt: skip
        asked = {**FEW, "source": source, "resolution": side}
        chosen = resolve("realnet-demo", asked, realnet.Options)
        task = single(few, find_shards(folder, few.key))
        facts = train(chosen, task, tmp_path / f"{source}-{side}", accelerator_for("cpu", "fp32"))
        assert facts["step"] == 10 and np.isfinite(facts["curve"][-1][1:]).all()


def test_the_run_says_what_it_is(pairs: tuple[Path, ShardReader]) -> None:
    document = json.loads((pairs[0] / "run.json").read_text())
    assert document["kind"] == "sia-gen pairs in place"
    assert "depth 0.1 to 0.3" in (pairs[0] / "README.md").read_text()
