"""The command line: help without torch, one clear line for each mistake, nothing written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detector.cli import main as cli


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Returns exit code, stdout and stderr of a command run in this process."""
    code = 0
    argv, sys.argv = sys.argv, ["detector", *arguments]
    try:
        cli.main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    finally:
        sys.argv = argv
    out, err = capsys.readouterr()
    return code, out, err


def test_train_score_info_and_again(
    tmp_path: Path,
    line: Path,
    generated: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "run")
    arguments = ["train", "--data", str(line), "--category", "stripes", "--out", out, "--json"]
    arguments += ["--shards", str(generated), "--recipe", str(recipe), "--device", "cpu"]
    arguments += ["--steps", "4", "--set", "rrs=off"]
    code, stdout, stderr = run(capsys, *arguments)
    assert code == 0, stderr
    first = json.loads(stdout)
    assert first[0]["category"] == "line/stripes" and first[0]["steps"] == 4
    code, stdout, stderr = run(capsys, *arguments)
    assert code == 0 and "trained before, nothing to do" in stderr
    assert json.loads(stdout) == first
    options = json.loads((tmp_path / "run/line/stripes/options.json").read_text())
    assert options["options"]["options"]["rrs"] == "off"
    code, stdout, stderr = run(
        capsys,
        "score",
        "--run",
        out,
        "--data",
        str(line),
        "--category",
        "stripes",
        "--device",
        "cpu",
    )
    assert code == 0 and "24 test images scored" in stderr and stdout == ""
    code, _, stderr = run(
        capsys,
        "score",
        "--run",
        out,
        "--data",
        str(line),
        "--category",
        "stripes",
        "--device",
        "cpu",
    )
    assert code == 0 and "scored before" in stderr
    code, stdout, _ = run(capsys, "info", f"{out}/line/stripes")
    assert code == 0 and "resnet18@random-seed0" in stdout and "rrs off" in stdout
    code, stdout, _ = run(capsys, "info", f"{out}/line/stripes/checkpoint.safetensors", "--json")
    assert code == 0 and json.loads(stdout)["category"] == "line/stripes"
    code, _, stderr = run(capsys, *[a if a != "4" else "3" for a in arguments])
    assert code == 2 and "steps: 4 there, 3 asked" in stderr


def test_globs_train_several_categories_after_checking_all(
    tmp_path: Path,
    line: Path,
    generated: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    base = ["train", "--data", str(line), "--out", str(out), "--recipe", str(recipe)]
    base += ["--device", "cpu", "--steps", "2"]
    # The second category has no shards: nothing of the first may have been started.
    code, _, stderr = run(capsys, *base, "--category", "all", "--shards", str(generated))
    assert code == 2 and "no finished shard of category line/stripes-b" in stderr
    assert not out.exists()
    code, _, stderr = run(capsys, *base, "--category", "stripes*", "--source", "noise")
    assert code == 0, stderr
    assert (out / "line/stripes/checkpoint.json").is_file()
    assert (out / "line/stripes-b/checkpoint.json").is_file()


MISTAKES = {
    "missing folder": (["--data", "/no/such/folder"], "data folder /no/such/folder does not exist"),
    "category typo": (["--category", "stripse"], "Did you mean stripes"),
    "missing weights": (["--weights", "absent.safetensors"], "absent.safetensors do not exist"),
    "recipe typo": (["--recipe", "realnett"], "Did you mean realnet"),
    "unknown option": (["--set", "rsr=off"], "option 'rsr' is unknown. Did you mean rrs"),
    "no equals sign": (["--set", "rrs"], "expected name=value"),
    "bad value": (["--set", "afs_batches=many"], "expected a number, found 'many'"),
    "odd batch": (["--batch-size", "7"], "half of it is normal"),
    "no steps": (["--steps", "-1"], "'--steps': -1 is not in the range"),
    "source typo": (["--source", "noize"], "Did you mean noise"),
    "bad resolution": (["--resolution", "40"], "resolution 40 does not suit"),
    "bad device": (["--device", "gpu"], "device 'gpu' is unknown"),
    "half precision": (["--precision", "fp16"], "precision fp16 needs a GPU"),
    "no textures": (["--source", "dtd"], "needs a folder of textures: give --textures DIR"),
    "no such textures": (
        ["--source", "dtd", "--textures", "/no/dtd"],
        "textures /no/dtd is no folder",
    ),
    "bad mixture": (["--source", "sdas:1,noise:0"], "weights must be above 0"),
    "source without pairs": (["--source", "none"], "needs a source of anomalous pairs"),
    "protocol typo": (["--protocol", "best"], "'best' is not one of 'last', 'held-out'"),
    "nothing held out": (["--protocol", "held-out"], "needs --holdout"),
    "patience alone": (["--patience", "3"], "patience has nothing to look at"),
    "bad share": (["--channels", "1.5"], "each must be a whole number of at least 2, or a share"),
    "bad ratio": (["--set", "rrs_ratio=1.5"], "rrs_ratio 1.5: expected above 0 and at most 1"),
    "unknown tag": (["--weights", "pretrained:tv9"], "its tags are"),
    "missing shards": (["--shards", "/no/run"], "shards /no/run do not exist"),
    "foreign shards": (["--category", "stripes-b", "--shards", "TAR"], "not of line/stripes-b"),
    "unknown flag": (["--recipie", "mobile"], "--recipe"),
}


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_mistake_is_one_clear_line_and_writes_nothing(
    name: str,
    tmp_path: Path,
    line: Path,
    generated: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, expected = MISTAKES[name]
    tar = generated / "shards" / "line" / "stripes" / "stripes-00000.tar"
    out = tmp_path / "run"
    base = ["train", "--data", str(line), "--category", "stripes", "--recipe", str(recipe)]
    base += ["--shards", str(generated), "--out", str(out), "--device", "cpu"]
    code, stdout, stderr = run(capsys, *base, *(a.replace("TAR", str(tar)) for a in arguments))
    assert code == 2
    assert expected in stderr and "Traceback" not in stderr and stdout == ""
    assert stderr.startswith("error: ") and stderr.count("\n") == 1
    assert not out.exists()


def test_shards_of_another_category_train_when_that_is_asked_for(
    tmp_path: Path,
    line: Path,
    generated: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["train", "--data", str(line), "--category", "stripes-b", "--steps", "2"]
    arguments += ["--shards", str(generated), "--recipe", str(recipe), "--device", "cpu"]
    code, _, stderr = run(
        capsys, *arguments, "--out", str(tmp_path / "run"), "--allow-foreign-shards"
    )
    assert code == 0, stderr


def test_folder_of_something_else_is_left_alone(
    tmp_path: Path,
    line: Path,
    generated: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run" / "line" / "stripes").mkdir(parents=True)
    (tmp_path / "run" / "line" / "stripes" / "notes.txt").write_text("mine")
    arguments = ["train", "--data", str(line), "--category", "stripes", "--device", "cpu"]
    arguments += ["--shards", str(generated), "--recipe", str(recipe)]
    code, _, stderr = run(capsys, *arguments, "--out", str(tmp_path / "run"))
    assert code == 2 and "holds other files (notes.txt)" in stderr
    assert [p.name for p in (tmp_path / "run" / "line" / "stripes").iterdir()] == ["notes.txt"]
    code, _, stderr = run(capsys, "score", "--run", str(tmp_path / "none"), "--data", str(line))
    assert code == 2 and "does not exist" in stderr
    code, _, stderr = run(capsys, "info", str(tmp_path / "none"))
    assert code == 2 and "does not exist" in stderr


@pytest.mark.parametrize(
    "name",
    [
        "realnet",
        "realnet-small",
        "realnet-c",
        "realnet-512",
        "resnet34",
        "efficientnet_b4",
        "multi-class",
        "mobile",
        "realnet-demo",
    ],
)
def test_shipped_recipes_resolve(name: str) -> None:
    from detector.models.realnet import Options
    from detector.options import resolve

    given = {"dtd.textures": "textures"} if name == "multi-class" else {}
    options = resolve(name, given, Options)
    assert options.model == "realnet" and options.total_steps(100) >= 100
    if name == "realnet":
        assert options.options["channels"] == [256, 512, 512, 256]
        assert options.learning_rate == 1e-4 and options.batch_size == 16
        assert options.resolution == 256
