"""The command line: help is fast, errors are one line, and the commands chain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.cli.quality import pair_weights
from sia_gen.core.errors import UserError


def harness(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_commands_chain(small_dataset: Path, tmp_path: Path) -> None:
    run, results, page = tmp_path / "run", tmp_path / "results", tmp_path / "page.html"
    first = harness("baseline", "--data", small_dataset, "--out", run, "--json")
    assert first.returncode == 0, first.stderr
    assert len(json.loads(first.stdout)) == 2
    second = harness("evaluate", run, "--out", results, "--json")
    assert second.returncode == 0, second.stderr
    assert [r["category"] for r in json.loads(second.stdout)] == ["bolt", "cloth"]
    third = harness("leaderboard", results, "--html", page)
    assert third.returncode == 0, third.stderr
    assert "colour-statistics" in third.stdout
    assert "Detection on small" in third.stdout
    assert page.read_text().startswith("<!DOCTYPE html>")
    fourth = harness("leaderboard", results, "--json")
    assert json.loads(fourth.stdout)["sections"][0]["rows"][0]["rank"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("leaderbord",), "Did you mean leaderboard"),
        (("evaluate", "--out", "x"), "no such folder"),
        (("evaluate", "nowhere", "--out", "x"), "nowhere: no such folder"),
        (("leaderboard", "nowhere"), "nowhere: no such folder"),
        (("leaderboard", "nowhere", "--format", "xml"), "'xml' is not one of"),
        (("leaderboard", "x", "--contact-sheet", "y"), "give --html FILE too"),
        (("baseline", "--data", "nowhere", "--out", "x"), "nowhere does not exist"),
        (("baseline", "--size", "3", "--out", "x"), "3 is not in the range"),
        (("quality", "--shards", "nowhere", "--out", "x"), "shards nowhere do not exist"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    shown = capsys.readouterr()
    assert said in shown.err
    lines = shown.err.strip().splitlines()
    assert len([line for line in lines if not line.startswith("defaults: ")]) == 1
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_errors_are_json_too_where_json_was_asked_for() -> None:
    run = harness("leaderboard", "nowhere", "--json")
    assert run.returncode == 2
    assert json.loads(run.stdout)["exit_code"] == 2
    assert run.stderr.startswith("error: results nowhere")


def test_a_closed_reader_is_no_error(score_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = score_folder()
    command = (
        f"{sys.executable} -m harness.cli evaluate {folder} --out {tmp_path / 'r'} | head -c 1"
    )
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


def test_weights_belong_to_networks() -> None:
    assert pair_weights(("a",), ("file",)) == [("a", "file")]
    assert pair_weights(("a", "b"), ("b=x=y",)) == [("a", None), ("b", "x=y")]
    with pytest.raises(UserError, match="NAME=FILE"):
        pair_weights(("a", "b"), ("file",))
    with pytest.raises(UserError, match="twice"):
        pair_weights(("a", "a"), ())
