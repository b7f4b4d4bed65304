"""docs/python.md: its examples run, and it lists what the packages offer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import detector
import harness
import sia_gen
from detector import Detector
from detector.inference.score import score
from sia_gen import UserError
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.pixels.images import read_image

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python.md"


def test_the_page_runs_from_top_to_bottom(
    trained: Path, line: Path, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    for name, target in (("line", line), ("runs/sia", generated), ("runs/detector", trained)):
        (tmp_path / name).symlink_to(target)
    score(trained, open_dataset(line).one("stripes"), "cpu")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(block, names)
    assert 0 < int(str(names["found"])) <= 24
    assert names["metrics"]["image_auroc_max"] == 1.0  # type: ignore[index]
    assert "realnet" in str(names["board"])
    assert "<html" in (tmp_path / "runs" / "board.html").read_text(encoding="utf-8")


def test_the_page_lists_what_is_public() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for package in (detector, sia_gen, harness):
        (row,) = re.findall(rf"^\| `{package.__name__}` \| (.*) \|$", text, re.M)
        assert set(re.findall(r"`(\w+)`", row)) == set(package.__all__) == set(dir(package))
        assert all(getattr(package, name) for name in package.__all__)
        assert (Path(package.__file__ or "").parent / "py.typed").is_file()


def test_importing_the_packages_loads_nothing_heavy() -> None:
    code = (
        "import sys, detector, sia_gen, harness;"
        "print([m for m in ('torch', 'numpy', 'scipy', 'PIL', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_form_of_an_image_gives_the_same_answer(trained: Path, stripes: Category) -> None:
    d = Detector.load(trained / "line" / "stripes", device="cpu")
    path = next(e.path for e in stripes.test if e.anomalous)
    pixels = read_image(path)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    wanted = d.predict(path)
    forms = [str(path), Image.open(path), pixels, pixels / 255, pixels[..., :1], pixels[..., 0],
             tensor, tensor.float() / 255]  # fmt: skip
    for form in forms:
        assert d.predict(form).score == pytest.approx(wanted.score, abs=1e-4)
    batches = [[path, pixels], (path, pixels), np.stack([pixels] * 2), torch.stack([tensor] * 2)]
    for batch in batches:
        both = d.predict(batch)
        assert isinstance(both, list) and len(both) == 2
        assert both[1].score == pytest.approx(wanted.score, abs=1e-4)
    read: list[int] = []
    stream = d.predict(read.append(i) or pixels for i in range(100))
    assert next(stream).score == pytest.approx(wanted.score, abs=1e-4) and len(read) < 50
    assert d.promise == wanted.promise is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((4, 4, 4), dtype=np.uint8), "expected height x width"),
        (np.zeros((8, 8, 3)) + 2, "from 0 to 1"),
        (np.zeros((8, 8, 3), dtype=np.int64), "expected uint8"),
        (torch.zeros(8, 8), r"expected \(3, H, W\)"),
        (5, "cannot be a int"),
        ("absent.png", "does not exist"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(
    trained: Path, given: object, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        Detector.load(trained / "line" / "stripes", device="cpu").predict(given)  # type: ignore[call-overload]


def test_boxes_are_the_masks_regions(trained: Path, stripes: Category) -> None:
    d = Detector.load(trained / "line" / "stripes", device="cpu", least_area=5)
    for example in stripes.test:
        r = d.predict(Image.open(example.path).resize((61, 47)))
        assert r.mask.shape == r.map.shape == (47, 61)
        assert sum(box.area for box in r.boxes) == r.mask.sum()
        for box in r.boxes:
            part = r.mask[box.y : box.y + box.height, box.x : box.x + box.width]
            assert part.sum() >= box.area >= 5 and part.any(0).all() and part.any(1).all()
            assert box.score > r.threshold
