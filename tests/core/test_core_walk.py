"""One walk for everything that lists files: links, loops, hidden folders, odd names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from detector.inference.outputs import is_output, picture_path
from harness.measure.submit import given_maps
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png, is_image_name
from sia_gen.core.store.files import write_bytes
from sia_gen.core.store.shards import find_shards
from sia_gen.core.store.walk import walk
from sia_gen.core.text import shown
from sia_gen.methods.dtd import find_textures

PICTURE = encode_png(np.zeros((4, 4), np.uint8))


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURE)


def names(root: Path) -> list[str]:
    return [str(p.relative_to(root)) for p in walk(root, is_image_name)]


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    root, nas = tmp_path / "shots", tmp_path / "nas"
    put(root, "a.png", "monday/b.png")
    put(nas, "c.png", "deep/d.png")
    (root / "tuesday").symlink_to(nas)
    (root / "again").symlink_to(nas)  # the same folder under a second name: the same pictures
    (root / "monday" / "up").symlink_to(root)
    (root / "monday" / "self").symlink_to(root / "monday" / "self")
    (root / "gone").symlink_to(tmp_path / "absent")
    (root / "linked.png").symlink_to(nas / "c.png")  # a file of its own name
    (nas / "back").symlink_to(root)
    (root / "above").symlink_to(tmp_path)  # would lead to everything beside the folder
    assert names(root) == ["a.png", "again/c.png", "again/deep/d.png", "linked.png", "monday/b.png"]
    (root / "again").unlink()
    assert "tuesday/deep/d.png" in names(root)


def test_a_real_folder_goes_before_a_link_to_it(tmp_path: Path) -> None:
    put(tmp_path, "z/1.png")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert names(tmp_path) == ["z/1.png"]


def test_hidden_folders_and_files_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "1.png", ".ipynb_checkpoints/1.png", "__MACOSX/1.png", "._1.png", "x/.git/2.png")
    assert names(tmp_path) == ["1.png"]


def test_a_hidden_root_is_meant(tmp_path: Path) -> None:
    put(tmp_path / ".data", "1.png")
    assert names(tmp_path / ".data") == ["1.png"]


def test_the_pictures_of_a_prediction_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "p/overlays/1.png.png", "p/steps/1.png.png", "overlays/2.png")
    (tmp_path / "p" / "predictions.csv").write_text("path\n")
    found = walk(tmp_path, is_image_name, is_output)
    assert [p.name for p in found] == ["1.png", "2.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        walk(tmp_path / "absent", is_image_name)
    put(tmp_path, "shut/1.png")
    (tmp_path / "shut").chmod(0)
    try:
        if os.access(tmp_path / "shut", os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(UserError, match="shut cannot be read"):
            walk(tmp_path, is_image_name)
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_textures_maps_and_shards_follow_links(tmp_path: Path) -> None:
    real = tmp_path / "real"
    put(real, "t.png")
    np.save(real / "m.npy", np.zeros((2, 2), np.float32))
    for name in ("textures", "maps"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "linked").symlink_to(real)
    assert [p.name for p in find_textures(tmp_path / "textures")] == ["t.png"]
    assert [one.name for one in given_maps(tmp_path / "maps")] == ["linked/m", "linked/t"]
    with pytest.raises(UserError, match="no finished shard"):
        find_shards(real)


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    long = ["x" * 251 + ".png"[:4], "x" * 250 + "y" + ".png"]
    made = [picture_path(tmp_path, name) for name in long]
    assert len(set(made)) == 2 and all(len(os.fsencode(p.name)) <= 255 for p in made)
    for path in made:
        write_bytes(path, PICTURE)
        assert path.read_bytes() == PICTURE
    assert picture_path(tmp_path, "a/b.jpg") == tmp_path / "a" / "b.jpg.png"
    deep = "/".join(["d" * 200] * 21)
    assert len(os.fsencode(picture_path(tmp_path, deep))) < 300


def test_text_from_outside_is_printed_in_one_plain_line() -> None:
    assert shown("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert shown(Path(os.fsdecode(b"\xff.png"))) == "\\xff.png"
    assert shown("螺丝 ü.png") == "螺丝 ü.png"
