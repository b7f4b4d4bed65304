"""The command line: fast help, and bad input told in one line with exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import gen_support as support
import pytest

from sia_gen.cli import main as cli
from sia_gen.core.pixels.images import decode


class Outcome:
    """What a command line did, run in this process."""

    def __init__(self, code: int, out: str, error: str) -> None:
        self.code, self.out, self.error = code, out, error


Sia = Callable[..., Outcome]


@pytest.fixture
def sia(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sia:
    def invoke(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["sia-gen", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return invoke


BAD = [
    pytest.param({"s-range": (0.2, 0.1)}, ["reversed"], id="s-range reversed"),
    pytest.param({"s-range": (-0.1, 0.1)}, ["at least 0"], id="s-range negative"),
    pytest.param({"s-range": ("nan", 0.1)}, ["finite"], id="s-range nan"),
    pytest.param({"s-range": ("0,1", 0.1)}, ["'0,1' is not a valid float"], id="s-range text"),
    pytest.param({"categories": "gras"}, ["'gras'", "grass"], id="category misspelt"),
    pytest.param({"categorys": "grass"}, ["--categorys", "--categories"], id="option misspelt"),
    pytest.param({"per-category": 0}, ["--per-category", "0 is not in the range"], id="n 0"),
    pytest.param({"per-category": -1}, ["--per-category", "-1 is not in the range"], id="n -1"),
    pytest.param({"per-category": 10**12}, ["--per-category", "<=x<="], id="n huge"),
    pytest.param({"per-category": "many"}, ["'many'"], id="n text"),
    pytest.param({"seed": 2**64}, ["--seed"], id="seed huge"),
    pytest.param({"data": "nowhere"}, ["nowhere", "does not exist"], id="data missing"),
    pytest.param({"model": "nothing-here"}, ["nothing-here", "shipped"], id="model missing"),
    pytest.param(
        {"model": "testing:noise?names=brick,grass"}, ["no class for gravel"], id="class missing"
    ),
    pytest.param({"sampler": "euler"}, ["'euler'", "iddpm"], id="sampler unknown"),
    pytest.param({"executor": "slurm"}, ["'slurm'", "local"], id="executor unknown"),
    pytest.param({"workers": 3}, ["--executor ray"], id="workers of local"),
    pytest.param({"out": "/"}, ["other content"], id="output is the root"),
    pytest.param({"out": "x" * 300}, ["too long"], id="output name too long"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(
    sia: Sia,
    change: dict[str, object],
    words: list[str],
    tmp_path: Path,
    mini: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = sia(*support.run_arguments(Path("out"), mini, **change))
    assert outcome.code == 2
    assert outcome.out == ""
    (line,) = outcome.error.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert not list(tmp_path.iterdir())


def _refused(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2
    (line,) = outcome.error.strip().splitlines()
    assert all(word in line for word in words), line


def test_output_that_is_a_file(sia: Sia, tmp_path: Path, mini: Path) -> None:
    out = tmp_path / "file"
    out.write_text("mine")
    _refused(sia(*support.run_arguments(out, mini)), str(out), "is a file")
    _refused(sia(*support.run_arguments(out / "below", mini)), "is a file")
    assert out.read_text() == "mine"


def test_output_with_other_content(sia: Sia, tmp_path: Path, mini: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    _refused(sia(*support.run_arguments(tmp_path, mini)), "other content")
    assert support.all_files(tmp_path) == {"thesis.tex"}


def test_output_of_another_run(sia: Sia, tmp_path: Path, mini: Path, finished: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before = support.stable_files(out)
    _refused(sia(*support.run_arguments(out, mini, seed=5)), "seed: 0 -> 5", "other options")
    assert support.stable_files(out) == before


def test_output_of_another_program(sia: Sia, tmp_path: Path, mini: Path) -> None:
    (tmp_path / "run.json").write_text('{"kind": "something else"}')
    _refused(sia(*support.run_arguments(tmp_path, mini)), "not of a generation run")


def test_output_inside_the_data_and_data_inside_the_output(
    sia: Sia, tmp_path: Path, mini: Path
) -> None:
    data = tmp_path / "mini"
    shutil.copytree(mini, data)
    for out in (data, data / "brick" / "made", data / "made"):
        outcome = sia(*support.run_arguments(out, data))
        assert outcome.code == 2
    link = tmp_path / "link"
    link.symlink_to(data)
    _refused(sia(*support.run_arguments(link / "made", data)), "lie inside each other")
    assert support.all_files(data) == support.all_files(mini)


@pytest.mark.parametrize("allowed", [False, True])
def test_output_without_permission(
    sia: Sia, allowed: bool, tmp_path: Path, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of the system, and where that says yes (root), found out before a model is loaded."""
    if allowed:
        monkeypatch.setattr(
            Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied"))
        )
        words = ["cannot be made", "denied"]
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
        words = ["no permission"]
    _refused(sia(*support.run_arguments(tmp_path / "out", mini)), *words)
    assert not list(tmp_path.iterdir())


def test_an_empty_category(sia: Sia, tmp_path: Path, mini: Path) -> None:
    data = tmp_path / "mini"
    shutil.copytree(mini, data)
    for image in (data / "grass/train/good").iterdir():
        image.unlink()
    _refused(sia(*support.run_arguments(tmp_path / "out", data)), "grass", "holds no image")
    assert not (tmp_path / "out").exists()


def test_a_text_file_named_png(sia: Sia, tmp_path: Path, mini: Path) -> None:
    data = tmp_path / "mini"
    shutil.copytree(mini, data)
    (data / "brick/train/good/9.png").write_text("<html>404</html>")
    _refused(sia(*support.run_arguments(tmp_path / "out", data)), "9.png", "none")
    assert not (tmp_path / "out").exists()


def test_a_misspelt_command_gets_near_names(sia: Sia) -> None:
    _refused(sia("verfy", "x"), "'verfy'", "verify")


@pytest.mark.parametrize("command", ["status", "verify", "repair"])
def test_a_folder_that_is_no_run(sia: Sia, command: str, tmp_path: Path) -> None:
    _refused(sia(command, tmp_path / "missing"), "does not exist")
    _refused(sia(command, tmp_path), "no run folder")


def test_errors_are_json_on_stdout_with_json(sia: Sia, tmp_path: Path, mini: Path) -> None:
    outcome = sia(*support.run_arguments(tmp_path / "out", mini, seed=-1), "--json")
    assert outcome.code == 2
    assert json.loads(outcome.out)["exit_code"] == 2
    assert "--seed" in json.loads(outcome.out)["error"]


def test_run_plan_status_and_verify_in_json(sia: Sia, tmp_path: Path, mini: Path) -> None:
    out = tmp_path / "run with spaces ü"
    arguments = support.run_arguments(out, mini)
    plan = json.loads(sia(*arguments, "--dry-run", "--json").out)
    assert plan["shards_to_do"] == 9
    assert not out.exists()
    outcome = sia(*arguments, "--json")
    assert json.loads(outcome.out)["images_made_now"] == 60
    assert len([line for line in outcome.error.splitlines() if line.startswith("[")]) == 9
    state = json.loads(sia("status", out, "--json").out)
    assert (state["state"], state["images_done"]) == ("complete", 60)
    outcome = sia("status", out)
    assert outcome.code == 0 and "complete" in outcome.out
    report = sia("verify", out, "--json")
    assert report.code == 0 and json.loads(report.out)["ok"] is True
    (out / "shards/mini/grass/grass-00001.tar").unlink()
    report = sia("verify", out, "--json")
    assert report.code == 4
    assert json.loads(report.out)["problems"][0]["kind"] == "missing"
    assert "grass-00001.tar" in sia("verify", out).out
    assert sia("repair", out, "--executor", "local").code == 0
    assert sia("verify", out).code == 0


def test_plan_is_run_with_dry_run(sia: Sia, tmp_path: Path, mini: Path) -> None:
    arguments = support.run_arguments(tmp_path / "out", mini)
    executor = arguments.index("--executor")
    planned = sia("plan", *arguments[1:executor], *arguments[executor + 2 :])
    assert planned.out == sia(*arguments, "--dry-run").out
    assert "60 to make of 60" in planned.out


def test_preview_draws_normal_images_above_strengths_of_the_same_seeds(
    sia: Sia, tmp_path: Path, mini: Path
) -> None:
    import fake_model as testing

    out = tmp_path / "sheet.png"
    outcome = sia(
        *["preview", "--data", mini, "--model", "testing:noise", "--out", out],
        *["--columns", 4, "--strengths", "0,0.2", "--scale", 3],
    )
    assert outcome.code == 0 and outcome.out.strip() == str(out)
    sheet = decode(out.read_bytes(), "sheet")
    seed = support.seed_of("gravel", 3)
    for strength in (0.0, 0.2):
        (image,) = testing.Fake().images("gravel", [seed], [strength])
        large = image.repeat(3, axis=0).repeat(3, axis=1)
        # The last column: right edge less the gap; somewhere down the sheet its row appears.
        column = sheet[:, -50:-2]
        found = [y for y in range(len(column) - 48) if (column[y : y + 48] == large).all()]
        assert len(found) == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (["--out", "sheet.jpg"], "PNG"),
        (["--strengths", "0,high"], "'high'"),
        (["--strengths", "-1"], "at least 0"),
        (["--columns", "0"], "'--columns': 0"),
        (["--scale", "99"], "'--scale': 99"),
        (["--categories", "gras"], "grass"),
    ],
)
def test_preview_refuses_bad_input(
    sia: Sia,
    change: list[str],
    word: str,
    tmp_path: Path,
    mini: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = ["preview", "--data", mini, "--model", "testing:noise", "--out", "sheet.png"]
    _refused(sia(*usual, *change), word)
    assert not list(tmp_path.iterdir())
