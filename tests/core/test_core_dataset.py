"""Datasets: MVTec-AD's layout by path alone, the embedded textures, and every wrong folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sia_gen.core.data import textures
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png, read_image
from sia_gen.core.pixels.masks import read_mask
from sia_gen.core.seeds import generator

IMAGE = encode_png(np.zeros((8, 8, 3), np.uint8))


def put(path: Path, content: bytes = IMAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    root = tmp_path / "parts"
    for category in ("bolt", "bolts-2"):
        put(root / category / "train" / "good" / "000.png")
        put(root / category / "train" / "good" / "001.JPG")
        put(root / category / "test" / "good" / "000.png")
        put(root / category / "test" / "dent" / "000.png")
        put(root / category / "test" / "dent" / "001.png")
        put(root / category / "ground_truth" / "dent" / "000_mask.png")
    put(root / "bolt" / "train" / "good" / "notes.txt", b"text")
    put(root / "license.txt", b"text")
    return root


def test_a_folder_is_a_dataset(parts: Path) -> None:
    dataset = open_dataset(parts)
    assert [c.key for c in dataset.categories] == ["parts/bolt", "parts/bolts-2"]
    bolt = dataset.one("bolt")
    assert [p.name for p in bolt.train] == ["000.png", "001.JPG"]
    assert [(e.defect, e.anomalous, e.mask is not None) for e in bolt.test] == [
        ("dent", True, True),
        ("dent", True, False),
        ("good", False, False),
    ]
    assert open_dataset(parts / "bolt").one("bolt").key == "parts/bolt"


def test_names_and_globs_select(parts: Path) -> None:
    dataset = open_dataset(parts)
    for patterns, count in (
        ("all", 2),
        ("bolt", 1),
        ("bolt*", 2),
        ("parts/*", 2),
        ("bolt,bolt", 1),
    ):
        assert len(dataset.select(patterns)) == count
    with pytest.raises(UserError, match=r"'bolz'.*Did you mean bolt"):
        dataset.select("bolz")
    with pytest.raises(UserError, match="matches 2 categories"):
        dataset.one("bolt*")


def test_wrong_folders_are_named(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(UserError, match="is a file"):
        open_dataset(parts / "license.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no category"):
        open_dataset(tmp_path / "empty")
    (parts / "nut" / "train" / "good").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no image"):
        open_dataset(parts)
    (parts / "nut" / "train" / "good").rmdir()
    with pytest.raises(UserError, match="no train/good folder"):
        open_dataset(parts)


def test_textures_are_the_same_everywhere_and_the_masks_exact(tmp_path: Path) -> None:
    first = textures.materialise(tmp_path / "a")
    second = textures.materialise(tmp_path / "b")
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert all((first / f).read_bytes() == (second / f).read_bytes() for f in files)
    dataset = open_dataset(first)
    assert [c.name for c in dataset.categories] == ["brick", "grass", "gravel"]
    for category in dataset.categories:
        assert category.kind == "texture"
        defects = {e.defect for e in category.test}
        assert len(defects - {"good"}) >= 4
        assert sum(e.anomalous for e in category.test) == sum(
            not e.anomalous for e in category.test
        )
        for example in category.test:
            assert (example.mask is not None) == example.anomalous
            if example.mask:
                mask = read_mask(example.mask)
                assert mask.shape == read_image(example.path).shape[:2]
                assert 0 < mask.mean() < 0.3


def test_a_drawn_defect_changes_its_mask_and_nothing_else() -> None:
    crop = textures.photograph("gravel")[:64, :64]
    for defect in textures.DEFECTS:
        for k in range(5):
            image, mask = textures.draw_defect(crop, defect, generator(defect, k))
            np.testing.assert_array_equal(image[~mask], crop[~mask])
            change = np.abs(image.astype(int) - crop)[mask]
            assert change.mean() >= textures.MIN_CHANGE


def test_no_test_pixel_is_a_training_pixel(tmp_path: Path) -> None:
    """Every training crop lies in the photograph outside the strip that test crops are cut from."""
    root = textures.materialise(tmp_path)
    for category in textures.CATEGORIES:
        photo = textures.photograph(category)
        top, bottom = photo[: textures.STRIP[0]], photo[textures.STRIP[1] :]
        allowed = [np.lib.stride_tricks.sliding_window_view(p, (64, 64)) for p in (top, bottom)]
        for path in sorted((root / category / "train" / "good").iterdir())[:12]:
            crop = read_image(path)[..., 0]
            corner = [np.argwhere(w[:, :, 0, 0] == crop[0, 0]) for w in allowed]
            found = any(
                np.array_equal(windows[y, x], crop)
                for windows, places in zip(allowed, corner, strict=True)
                for y, x in places
                if windows[y, x, -1, -1] == crop[-1, -1] and windows[y, x, 0, -1] == crop[0, -1]
            )
            assert found, path
