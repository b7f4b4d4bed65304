"""`sia-gen check` looks at pixels: no photographs, masks that say nothing, odd shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sia_gen.cli.main import group
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.data.inspection import Problem, inspect
from sia_gen.core.data.problems import lines, note

RNG = np.random.default_rng(11)
SIDE = 24


def surface(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.clip(RNG.normal(120, 8, (height, width)), 0, 255).astype(np.uint8)


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def mask(low: int = 0, high: int = 255) -> np.ndarray:
    values = np.full((SIDE, SIDE), low, np.uint8)
    values[4:9, 4:9] = high
    return values


def dataset(root: Path, train: int = 50, low: int = 0, high: int = 255, good: int = 2) -> Path:
    for i in range(train):
        save(root / f"plate/train/good/{i}.png", surface())
    for i in range(good):
        save(root / f"plate/test/good/{i}.png", surface())
    for i in range(3):
        save(root / f"plate/test/crack/{i}.png", surface())
        save(root / f"plate/ground_truth/crack/{i}_mask.png", mask(low, high))
    return root


def found(root: Path, value_range: tuple[float, float] | None = None) -> list[Problem]:
    opened = open_dataset(root, value_range)
    return list(inspect(opened, opened.categories).problems)


def kinds(problems: list[Problem], weight: str) -> set[str]:
    return {p.kind for p in problems if p.weight == weight}


@pytest.mark.parametrize("name", ["{}.png", "{}_label.bmp", "{}_mask.png", "{}.GT.png"])
def test_masks_beside_photographs_are_no_photographs(tmp_path: Path, name: str) -> None:
    for i in range(6):
        save(tmp_path / f"kos/e{i}.jpg", surface())
        save(tmp_path / "kos" / name.format(f"e{i}"), np.zeros((SIDE, SIDE), np.uint8))
    save(tmp_path / "kos" / name.format("e0"), mask())
    problems = found(tmp_path / "kos")
    assert kinds(problems, "error") == {"constant", "like-a-mask"}
    (drawn,) = [p for p in problems if p.kind == "like-a-mask"]
    assert Path(drawn.file).name == name.format("e0")
    assert "no photograph (the mask of e0.jpg, by its name)" in drawn.detail
    assert sum(p.kind == "constant" for p in problems) == 5
    ran = CliRunner().invoke(group, ["check", str(tmp_path / "kos")])
    assert ran.exit_code == 4 and "5 files, such as" in ran.stdout


def test_a_dead_frame_among_photographs_is_an_error(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    save(root / "plate/train/good/dead.png", np.full((SIDE, SIDE), 17, np.uint8))
    (problem,) = found(root)
    assert (problem.weight, problem.kind) == ("error", "constant")


def test_a_camera_of_two_levels_is_only_noted(tmp_path: Path) -> None:
    for i in range(50):
        save(tmp_path / f"d/{i}.png", (surface() > 120).astype(np.uint8) * 255)
    assert kinds(found(tmp_path / "d"), "error") == set()
    assert kinds(found(tmp_path / "d"), "note") >= {"like-a-mask"}


def test_two_pictures_of_one_stem_are_noted(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    save(root / "plate/train/good/0.bmp", surface())
    (problem,) = found(root)
    assert problem.kind == "same-stem" and "one picture twice?" in problem.detail


def test_inverted_full_and_empty_masks(tmp_path: Path) -> None:
    assert found(dataset(tmp_path / "sound")) == []
    inverted = found(dataset(tmp_path / "inverted", low=255, high=0))
    assert kinds(inverted, "error") == {"large-masks"}
    assert kinds(inverted, "note") == {"large-mask"}
    assert "covers 96%" in next(p.detail for p in inverted if p.kind == "large-mask")
    full = found(dataset(tmp_path / "full", low=255))
    assert kinds(full, "error") == {"full-mask", "large-masks"}
    empty = found(dataset(tmp_path / "empty", high=0))
    assert kinds(empty, "error") == {"empty-masks"} and kinds(empty, "note") == {"empty-mask"}
    soft = dataset(tmp_path / "soft")
    for i in range(3):
        path = soft / f"plate/ground_truth/crack/{i}_mask.png"
        Image.open(path).save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    (problem, *_) = found(soft)
    assert problem.kind == "mask-values" and "more than half of the maximum" in problem.detail


def test_depth_is_an_error_until_a_range_is_given(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    for path in [*(root / "plate/train").rglob("*.png"), *(root / "plate/test").rglob("*.png")]:
        deep = np.asarray(Image.open(path)).astype(np.uint16) * 16
        Image.fromarray(deep).save(path)
    (problem,) = found(root)
    assert (problem.weight, problem.kind) == ("error", "range")
    assert "read at 0 to 4095" in problem.detail and "--range LOW HIGH" in problem.detail
    assert kinds(found(root, (0, 4095)), "error") == set()
    arguments = ["check", str(root), "--range", "0", "4095"]
    assert CliRunner().invoke(group, arguments).exit_code == 0


def test_few_images_and_half_a_test_set_are_noted(tmp_path: Path) -> None:
    assert "30 normal images: results will vary" in found(dataset(tmp_path / "a", 30))[0].detail
    assert "10 normal images: results will mean" in found(dataset(tmp_path / "b", 10))[0].detail
    (problem,) = found(dataset(tmp_path / "c", good=0))
    assert "no normal test image" in problem.detail and "need both kinds" in problem.detail


def test_large_and_long_images_are_noted(tmp_path: Path) -> None:
    for i in range(50):
        save(tmp_path / f"d/{i}.png", surface(20, 1100))
    said = {p.kind: p.detail for p in found(tmp_path / "d")}
    assert set(said) == {"reduction", "squeezed"}
    assert "1100 x 20" in said["squeezed"] and "a defect of 4 pixels is one" in said["reduction"]


def test_an_uneven_automatic_foreground_is_noted(tmp_path: Path) -> None:
    for i in range(50):
        image = surface(64, 64)
        if i % 2:
            image[:] = 10
            image[20:44, 20:44] = surface(24, 24)
        save(tmp_path / f"d/{i}.png", image)
    (problem,) = found(tmp_path / "d")
    assert problem.kind == "foreground" and "finds a part in" in problem.detail


def test_many_problems_of_one_kind_are_one_line_and_errors_come_first() -> None:
    many = [note("mode", f"/d/{i}.png", "mode P") for i in range(40)]
    few = [Problem(weight="error", kind="leak", file="/d/x.png", detail="seen in training")]
    said = list(lines([*many, *few]))
    assert said == [
        "error: leak: /d/x.png: seen in training",
        "note: mode: /d: 40 files, such as 0.png, 1.png, 2.png: mode P",
    ]
