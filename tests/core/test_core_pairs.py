"""Foreground, Perlin masks, blending, shards, seeds and files: the laws of the shared words."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import shard_files
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_gen.core import seeds
from sia_gen.core.errors import UserError
from sia_gen.core.pixels import foreground, perlin
from sia_gen.core.pixels.pairs import OPACITY_SDAS, blend, make_pair
from sia_gen.core.store import shards
from sia_gen.core.store.files import new_folder, write_bytes

RNG = np.random.default_rng(5)


def image(size: int = 32) -> np.ndarray:
    return RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), opacity=st.floats(0, 1))
def test_outside_its_mask_a_pair_is_its_normal_image(seed: int, opacity: float) -> None:
    rng = np.random.default_rng(seed)
    normal, other = image(), image()
    part = rng.uniform(size=(32, 32)) > 0.3
    pair = make_pair(normal, other, part, (opacity, opacity), rng)
    np.testing.assert_array_equal(pair.image[~pair.mask], normal[~pair.mask])
    assert not (pair.mask & ~part).any()
    exact = (1 - opacity) * normal[pair.mask].astype(float) + opacity * other[pair.mask]
    assert np.abs(pair.image[pair.mask] - exact).max(initial=0) <= 0.5 + 1e-3


def test_blend_is_the_formula() -> None:
    normal, other = image(), image()
    everywhere = np.ones((32, 32), np.bool_)
    np.testing.assert_array_equal(blend(normal, other, everywhere, 1.0), other)
    np.testing.assert_array_equal(blend(normal, other, everywhere, 0.0), normal)
    np.testing.assert_array_equal(blend(normal, other, ~everywhere, 1.0), normal)


def test_the_same_generator_state_gives_the_same_pair() -> None:
    normal, other, whole = image(), image(), np.ones((32, 32), np.bool_)
    a, b = (make_pair(normal, other, whole, OPACITY_SDAS, seeds.generator("x")) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.mask, b.mask)


def test_perlin_noise_is_zero_on_its_lattice_and_masks_vary() -> None:
    field = perlin.noise(64, (8, 4), np.random.default_rng(0))
    assert np.abs(field[::8, ::16]).max() < 1e-6
    assert np.abs(field).max() <= 1.0 + 1e-6
    shares = [perlin.mask(64, np.random.default_rng(i)).mean() for i in range(200)]
    assert 0.01 < np.mean(shares) < 0.3
    assert min(shares) == 0.0


def test_otsu_and_triangle_split_two_tones() -> None:
    picture = np.full((40, 40, 3), 30, np.uint8)
    picture[10:30, 10:30] = 200
    part = np.zeros((40, 40), np.bool_)
    part[10:30, 10:30] = True
    for rule in (
        "auto",
        "otsu bright gray",
        "triangle bright blue",
        "otsu bright gray close=6 open=6",
    ):
        np.testing.assert_array_equal(foreground.estimate(picture, rule), part, err_msg=rule)
    np.testing.assert_array_equal(foreground.estimate(picture, "otsu dark green"), ~part)
    np.testing.assert_array_equal(foreground.estimate(255 - picture, "auto"), part)
    assert foreground.estimate(picture, "whole").all()
    # Noise has no part on a ground: the whole image may carry an anomaly.
    assert foreground.estimate(image(), "auto").all()
    assert foreground.estimate(np.full((8, 8, 3), 7, np.uint8), "auto").all()
    # A surface that is lit from one side has none either.
    ramp = np.linspace(20, 220, 40).astype(np.uint8)[None, :, None]
    lit = np.ascontiguousarray(np.broadcast_to(np.minimum(ramp, ramp[:, ::-1]), (40, 40, 3)))
    assert foreground.estimate(lit, "auto").all()
    with pytest.raises(UserError, match="foreground rule"):
        foreground.estimate(picture, "otsu brightt gray")


def test_otsu_equals_scikit_image() -> None:
    from skimage.filters import threshold_otsu

    for seed in range(5):
        rng = np.random.default_rng(seed)
        gray = np.concatenate([rng.normal(60, 15, 900), rng.normal(170, 20, 700)])
        gray = np.clip(gray, 0, 255).astype(np.uint8).reshape(40, 40)
        ours, theirs = foreground.otsu(gray), threshold_otsu(gray)
        np.testing.assert_array_equal(gray > ours, gray > theirs)


def sample(key: str, **metadata: object) -> shards.Synthetic:
    return shards.Synthetic(key=key, image=image(), metadata={"index": 0, **metadata})


def test_a_shard_reads_back_and_its_bytes_depend_on_its_samples_alone(tmp_path: Path) -> None:
    samples = [sample("a-000", strength=0.1), sample("a-001", strength=0.2)]
    first = shard_files.write_tar(tmp_path / "a.tar", samples)
    second = shard_files.write_tar(tmp_path / "b.tar", samples)
    assert first["sha256"] == second["sha256"]
    reader = shards.ShardReader([tmp_path / "a.tar"])
    assert len(reader) == 2
    for i, expected in enumerate(samples):
        np.testing.assert_array_equal(reader.image(i), expected.image)
    assert reader.metadata(1)["strength"] == 0.2


def test_webdataset_reads_the_same_tar(tmp_path: Path) -> None:
    import webdataset

    expected = sample("a-000", strength=0.1)
    shard_files.write_tar(tmp_path / "a.tar", [expected])
    loaded = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode("rgb8"))
    np.testing.assert_array_equal(loaded[0]["png"], expected.image)
    assert loaded[0]["json"]["strength"] == 0.1


def test_a_shard_is_done_when_its_record_matches(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    facts = shard_files.write_tar(tar, [sample("a-000")])
    assert not shards.is_done(tar, "spec")
    shard_files.write_record(tar, {"spec_hash": "spec", **facts})
    assert shards.is_done(tar, "spec", checksum=True)
    assert not shards.is_done(tar, "other")
    content = tar.read_bytes()
    tar.write_bytes(content[:-1] + b"x")
    assert shards.is_done(tar, "spec")
    assert not shards.is_done(tar, "spec", checksum=True)
    tar.write_bytes(content[:-512])
    assert not shards.is_done(tar, "spec")
    for torn in ("", '{"schema": 1'):
        tar.write_bytes(content)
        shards.record_path(tar).write_text(torn)
        assert not shards.is_done(tar, "spec")


def test_hostile_tars_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    for name, kind in (
        ("../out.png", tarfile.REGTYPE),
        ("/etc/x.png", tarfile.REGTYPE),
        ("l.png", tarfile.SYMTYPE),
    ):
        with tarfile.open(path, "w") as tar:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        with pytest.raises(UserError, match="no plain file inside"):
            shards.ShardReader([path])
    path.write_text("no tar")
    with pytest.raises(UserError, match="not a readable uncompressed tar"):
        shards.ShardReader([path])


def test_seeds_are_stable_and_apart() -> None:
    assert seeds.image_seed(0, "textures/brick", 7) == 1_651_963_411_315_998_980
    many = {seeds.image_seed(r, c, i) for r in range(3) for c in ("a/b", "a/c") for i in range(500)}
    assert len(many) == 3000
    assert seeds.derive_seed(1, "2") != seeds.derive_seed("1", 2)
    strengths = [seeds.image_strength(seeds.image_seed(0, "a/b", i), 0.1, 0.2) for i in range(2000)]
    assert 0.1 <= min(strengths) < max(strengths) <= 0.2
    assert abs(np.mean(strengths) - 0.15) < 0.003
    assert seeds.image_strength(1, 0.3, 0.3) == 0.3


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with new_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), new_folder(target) as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match="cannot write"):
        write_bytes(target / "a" / "b", b"")


def test_core_loads_no_torch() -> None:
    code = (
        "import sys, sia_gen.core.data.dataset, sia_gen.core.store.shards,"
        "sia_gen.core.pixels.pairs,"
        " sia_gen.core.pixels.foreground, sia_gen.core.recipes, sia_gen.core.data.textures;"
        "heavy = {'torch', 'ray', 'click', 'accelerate', 'diffusers'} & set(sys.modules);"
        "print(sorted(heavy))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(output.stdout.replace("'", '"')) == []
