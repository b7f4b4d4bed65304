"""`sia-gen check`: every problem of a dataset with its file, and what is only worth a note."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dataset_trees import Tree
from PIL import Image

from sia_gen.cli.main import group
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.data.inspection import Problem, inspect, shown
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png

RNG = np.random.default_rng(3)


def picture(size: tuple[int, int] = (8, 8)) -> bytes:
    return encode_png(RNG.integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "parts")
    for i in range(3):
        made.write(f"bolt/train/good/00{i}.png", picture())
    made.write("bolt/test/good/000.png", picture())
    made.write("bolt/test/dent/000.png", picture())
    put_mask(made, "bolt/ground_truth/dent/000_mask.png")
    return made


def put_mask(tree: Tree, name: str, size: tuple[int, int] = (8, 8), value: int = 255) -> Path:
    mask = np.zeros(size, np.uint8)
    mask[1:3, 1:4] = value
    return tree.write(name, encode_png(mask))


def problems(tree: Tree) -> dict[tuple[str, str], Problem]:
    dataset = open_dataset(tree.root)
    report = inspect(dataset, dataset.categories)
    return {(p.kind, Path(p.file).name): p for p in report.problems}


def test_a_sound_dataset_has_no_problem_but_its_few_images(tree: Tree) -> None:
    found = problems(tree)
    assert set(found) == {("few", "bolt")} and "3 normal images" in found["few", "bolt"].detail
    for i in range(60):
        tree.write(f"bolt/train/good/more{i}.png", picture())
    assert problems(tree) == {}


def test_every_trap_is_named_with_its_file(tree: Tree) -> None:
    leak = tree.write(
        "bolt/test/good/001.png", (tree.root / "bolt/train/good/000.png").read_bytes()
    )
    tree.write("bolt/test/dent/001.png", picture())  # no mask
    tree.write("bolt/test/dent/002.png", picture())
    put_mask(tree, "bolt/ground_truth/dent/002_mask.png", value=0)
    tree.write("bolt/test/dent/003.png", picture())
    put_mask(tree, "bolt/ground_truth/dent/003_mask.png", (4, 9))
    tree.write("bolt/test/dent/004.png", picture())
    put_mask(tree, "bolt/ground_truth/dent/004_mask.png", value=3)
    put_mask(tree, "bolt/ground_truth/dent/999_mask.png")
    tree.write("bolt/train/good/empty.png", b"")
    tree.write("bolt/train/good/page.png", b"<html></html>")
    tree.write("bolt/train/good/cut.png", picture((64, 64))[:300])
    tree.write("bolt/train/good/notes.txt", b"x")
    tree.write("bolt/train/rejected/000.png", picture())
    tree.write("bolt/train/good/other.jpg", picture())
    twin = tree.write(
        "bolt/train/good/twin.png", (tree.root / "bolt/train/good/001.png").read_bytes()
    )
    found = problems(tree)
    errors = {key for key, p in found.items() if p.weight == "error"}
    assert errors == {
        ("leak", leak.name),
        ("mask-size", "003_mask.png"),
        ("unreadable", "empty.png"),
        ("unreadable", "page.png"),
        ("unreadable", "cut.png"),
    }
    assert "training image" in found["leak", leak.name].detail
    assert "4 x 9" not in found["mask-size", "003_mask.png"].detail  # width comes first
    assert "9 x 4 pixels" in found["mask-size", "003_mask.png"].detail
    assert "none: replace it" in found["unreadable", "page.png"].detail
    notes = {key for key, p in found.items() if p.weight == "note"}
    assert notes == {
        ("no-mask", "001.png"),
        ("empty-mask", "002_mask.png"),
        ("few", "bolt"),
        ("mask-without-image", "999_mask.png"),
        ("stray", "notes.txt"),
        ("stray", "000.png"),
        ("extension", "other.jpg"),
        ("duplicate", twin.name),
    }


def test_a_mask_of_another_size_is_refused_and_an_empty_one_is_none(tree: Tree) -> None:
    tree.write("bolt/test/dent/001.png", picture())
    put_mask(tree, "bolt/ground_truth/dent/001_mask.png", (4, 9))
    tree.write("bolt/test/dent/002.png", picture())
    put_mask(tree, "bolt/ground_truth/dent/002_mask.png", value=0)
    sound, odd, empty = (e for e in open_dataset(tree.root).one("bolt").test if e.anomalous)
    mask = sound.read_mask(16)
    assert mask is not None and mask.shape == (16, 16) and mask.sum() == 24
    with pytest.raises(UserError, match=r"001_mask\.png is 9 x 4 pixels, its image .* 8 x 8"):
        odd.read_mask(16)
    assert empty.read_mask(16) is None


def test_odd_modes_are_noted_and_read(tree: Tree) -> None:
    rgb = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    folder = tree.root / "bolt" / "train" / "good"
    rgb.convert("CMYK").save(folder / "cmyk.tif")
    rgb.quantize(16).save(folder / "palette.png")
    rgb.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(RNG.integers(0, 65536, (8, 8)).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(RNG.uniform(0, 1, (8, 8)).astype(np.float32)).save(folder / "float.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.convert("L").save(folder / "gray.bmp")  # gray is usual
    found = problems(tree)
    assert {key for key in found if key[0] == "mode"} == {
        ("mode", name) for name in ("cmyk.tif", "palette.png", "alpha.png")
    }
    assert ("rotation", "turned.jpg") in found
    # Two depths in one category cannot be read with one range.
    errors = {key for key, p in found.items() if p.weight == "error"}
    assert errors >= {("depth", "deep.png"), ("depth", "float.tiff")}


def test_pictures_in_motion_and_bombs_are_errors(tree: Tree) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (10, 20)]
    folder = tree.root / "bolt" / "train" / "good"
    frames[0].save(folder / "moving.png", format="GIF", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    Image.new("1", (20000, 20000)).save(folder / "bomb.png")
    found = problems(tree)
    assert "holds 2 pictures" in found["unreadable", "moving.png"].detail
    assert "holds 2 pictures" in found["unreadable", "pages.tif"].detail
    assert "declares more pixels than the limit" in found["unreadable", "bomb.png"].detail


def test_names_that_no_terminal_can_show_are_escaped(tree: Tree) -> None:
    raw = os.fsencode(tree.root / "bolt" / "train" / "good") + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes(picture())
    tree.write("bolt/train/good/two\nlines.png", picture())
    tree.write("bolt/train/good/-rf.png", picture())
    found = problems(tree)
    assert ("name", "caf\\xe9.png") in found and ("name", "two\\nlines.png") in found
    result = CliRunner().invoke(group, ["check", str(tree.root)])
    assert result.exit_code == 0 and "caf\\xe9.png" in result.stdout
    assert shown("plain/ä.png") == "plain/ä.png"


def test_counts_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "mvtec")
    for i in range(3):
        tree.write(f"bottle/train/good/{i}.png", picture())
    tree.write("bottle/test/good/0.png", picture())
    dataset = open_dataset(tree.root)
    report = inspect(dataset, dataset.categories)
    counted = [p.detail for p in report.problems if p.kind == "count" and p.weight == "error"]
    assert "train_good 3, the published dataset has 209" in counted
    assert any("cable" in p.detail for p in report.problems if p.kind == "absent")
    assert report.about["mvtec-ad"]["licence"] == "CC-BY-NC-SA-4.0"


def test_one_image_is_too_few(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "parts")
    tree.write("nut/train/good/0.png", picture())
    assert problems(tree)["few", "nut"].weight == "error"


def test_the_command_reports_and_exits(tree: Tree, tmp_path: Path) -> None:
    runner = CliRunner()
    sound = runner.invoke(group, ["check", str(tree.root)])
    assert sound.exit_code == 0 and "parts/bolt (unknown): train 3" in sound.stdout
    tree.write("bolt/train/good/page.png", b"<html></html>")
    broken = runner.invoke(group, ["check", str(tree.root), "--json"])
    assert broken.exit_code == 4
    report = json.loads(broken.stdout)
    assert report["ok"] is False and report["problems"][0]["kind"] == "unreadable"
    assert report["categories"][0]["train_good"] == 4
    missing = runner.invoke(group, ["check", str(tmp_path / "nothing")])
    assert isinstance(missing.exception, UserError)


def test_many_strays_of_a_folder_are_one_line(tree: Tree) -> None:
    for i in range(30):
        tree.write(f"bolt/train/raw/{i}.png", picture())
    ran = CliRunner().invoke(group, ["check", str(tree.root)])
    said = [line for line in ran.stdout.splitlines() if line.startswith("note: stray")]
    assert len(said) == 1 and "30 files, such as" in said[0] and "raw: " in said[0]
