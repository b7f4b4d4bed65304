"""Bad datasets and odd names: refused in one sentence before anything is written, or just work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gen_support as support
import numpy as np
import pytest
from gen_support import run
from PIL import Image

from sia_gen.care.verify import verify
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.generate.options import ExecutionOptions

LOCAL = ExecutionOptions(executor="local")
NOISE = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def bomb(path: Path) -> None:
    """A PNG header that claims 20000 x 20000 pixels."""
    content = bytearray(encode_png(NOISE))
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: shutil.rmtree(root), "does not exist"),
        (lambda root: [shutil.rmtree(p) for p in root.iterdir()], "holds no category"),
        (lambda root: shutil.rmtree(root / "brick/train/good"), "no train/good"),
        (lambda root: (root / "brick/train/good/x.png").write_bytes(b""), "x.png"),
        (lambda root: (root / "brick/train/good/x.jpg").write_text("<html>"), "x.jpg"),
        (lambda root: bomb(root / "brick/train/good/x.png"), "x.png"),
        (
            lambda root: (root / "brick/train/good/x.png").symlink_to(root / "brick/train/good"),
            None,
        ),
    ],
    ids=["gone", "empty", "no-good", "zero-bytes", "html", "bomb", "link-to-folder"],
)
def test_a_broken_dataset_is_told_and_nothing_is_written(
    damage: Callable[[Path], object], words: str | None, tmp_path: Path, mini: Path
) -> None:
    data = tmp_path / "mini"
    shutil.copytree(mini, data)
    damage(data)
    out = tmp_path / "run"
    if words is None:
        run(support.options(out, data, per_category=2), LOCAL)
        assert verify(out).problems == ()
        return
    with pytest.raises(UserError, match=words):
        run(support.options(out, data), LOCAL)
    assert not out.exists()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "F"])
def test_normal_images_of_any_kind_are_looked_at(mode: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "brick" / "train" / "good"
    folder.mkdir(parents=True)
    picture = Image.fromarray(NOISE)
    if mode == "I;16":
        picture = Image.fromarray((NOISE[..., 0].astype(np.uint16)) * 257)
    else:
        picture = picture.convert(mode)
    picture.save(folder / "x.tiff")
    out = tmp_path / "run"
    model = "testing:noise?judged=1"
    run(support.options(out, tmp_path / "data", model=model, per_category=2), LOCAL)
    levels = json.loads((out / "run.json").read_text())["normals"]["data/brick"]
    assert 60 < levels["mean"] < 200


@pytest.mark.parametrize("name", ["-x", "a b", "it's", 'a"b', "straße", "a.b.c", "x" * 100])
def test_categories_with_odd_names(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" / name / "train" / "good"
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(encode_png(NOISE))
    out = tmp_path / "run"
    run(
        support.options(
            out, tmp_path / "data", per_category=3, model="testing:noise?names=" + name
        ),
        LOCAL,
    )
    report = verify(out)
    assert (report.problems, report.images) == ((), 3)


def test_a_category_named_twice_is_made_once(tmp_path: Path, mini: Path) -> None:
    figures = run(support.options(tmp_path / "run", mini, categories="brick,b*,brick"), LOCAL)
    assert figures["images"] == 20


@pytest.mark.parametrize("shape", ["run/", "link", "a b/ü"])
def test_outputs_of_any_shape(
    shape: str, tmp_path: Path, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if shape == "link":
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
    run(support.options(shape, mini, per_category=2), LOCAL)
    assert verify(Path(shape)).problems == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify"], "RUN"),
        (["run", "--seed", "x"], "'x'"),
        (["run", "--seed", "-1"], "'--seed': -1"),
        (["run", "--encode", "gif"], "png"),
        (["run", "--rate", "3"], "--dry-run"),
        (["plan", "--rate", "0"], "--rate"),
        (["plan", "--rate", "nan"], "--rate"),
        (["plan", "--workers", "0"], "'--workers': 0"),
        (["run", "--wait", "5"], "--address"),
        (["run", "--out", "http://host/x"], "refused"),
        (["run", "--out", "pipe:cat"], "refused"),
        (["pack", "nowhere", "--out", "x"], "no folder"),
        (["pack", ".", "--out", "x", "--shard-size", "0"], "'--shard-size': 0"),
        (["pack", ".", "--out", "x", "--dataset", "../x"], "--dataset"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    from sia_gen.cli import main as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sia-gen", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    (line,) = (line for line in said if not line.startswith("defaults: "))
    assert line.startswith("error: ") and words in line
    assert not list(tmp_path.iterdir())
