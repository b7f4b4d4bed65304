"""The commands know each other's defaults: each runs as it stands after the one before."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.cli import main as detector
from harness.cli import main as harness
from sia_gen.cli import main as sia_gen

Run = Callable[[str], tuple[str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty folder and returns stdout and stderr; it must succeed."""
    monkeypatch.chdir(tmp_path)
    tools = {"sia-gen": sia_gen, "detector": detector, "harness": harness}

    def invoke(line: str) -> tuple[str, str]:
        words = line.split()
        monkeypatch.setattr(sys, "argv", words)
        code = 0
        try:
            tools[words[0]].main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return shown.out, shown.err

    return invoke


@pytest.mark.timeout(600)  # a busy machine
def test_the_chain_runs_as_it_stands_and_each_says_what_comes_next(
    run: Run, tmp_path: Path
) -> None:
    """In small: two of the four categories, two images each, four training steps."""
    run("sia-gen run --categories brick,grass --per-category 2 --executor local")
    small = "--steps 4 --set afs_batches=1 --device cpu"
    out, _ = run(f"detector train --shards runs/sia --dry-run {small}")
    planned = json.loads(out)
    assert planned["categories"] == ["textures/brick", "textures/grass"]
    assert [one["steps"] for one in planned["trainings"]] == [4, 4]
    assert planned["defaults"]["--recipe"].startswith("realnet-demo (needs no download")
    assert not (tmp_path / "runs" / "detector").exists()
    _, said = run(f"detector train --shards runs/sia {small}")
    assert "--data textures=" in said or "--data " in said
    assert "run.json says" in said and "--out runs/detector" in said
    assert said.rstrip().endswith("next: detector score")
    out, said = run("detector score --dry-run")
    assert "textures/brick: " in out and "textures/grass: " in out and "gravel" not in out
    _, said = run("detector score --device cpu")
    assert "RUN runs/detector" in said and "next: harness evaluate" in said
    out, _ = run("harness evaluate --dry-run")
    assert len(out.splitlines()) == 2
    _, said = run("harness evaluate")
    assert "SCORES runs/detector" in said and said.rstrip().endswith("next: harness leaderboard")
    out, said = run("harness quality --dry-run")
    assert out == "textures/brick: tiny-random\ntextures/grass: tiny-random\n"
    assert "run.json says" in said and "no measure of quality" in said
    _, said = run("harness quality")
    assert said.rstrip().endswith("next: harness leaderboard")
    out, _ = run("harness leaderboard --json")
    kinds = {section["kind"] for section in json.loads(out)["sections"]}
    assert kinds == {"detection", "quality"}
    # A finished training tells the next dry run how long one takes.
    out, _ = run(f"detector train --shards runs/sia --dry-run {small}")
    again = json.loads(out)
    assert [one["state"] for one in again["trainings"]] == ["finished", "finished"]
    assert again["memory_mib_estimated"] > 0 and again["estimated_from"].endswith("textures/brick")
    assert all(one["seconds_estimated"] > 0 for one in again["trainings"])


LACKING = """
import sys
from detector.cli.main import main
sys.argv = ["detector", "train", "--dry-run", "--source", "sdas:1,dtd:1", "--recipe", "mobile",
            "--shards", "nowhere", "--weights", "nothing.safetensors"]
try:
    main()
finally:
    print([name for name in ("torch", "timm") if name in sys.modules])
"""


def test_a_dry_run_lists_all_that_is_missing_before_torch_is_loaded(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", LACKING], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stdout == "[]\n"
    for thing in ("nothing.safetensors do not exist", "needs a folder of textures", "nowhere do"):
        assert thing in done.stderr
