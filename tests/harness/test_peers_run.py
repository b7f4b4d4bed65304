"""Runs of peers by a stand-in worker: rows, gaps, failures, exit codes. anomalib is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import harness.peers
from harness import records
from harness.cli.main import group
from harness.peers import catalog, run
from sia_gen.core.errors import IncompleteError, UserError


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Puts the stand-in in the worker's place, and returns the file of its rules."""
    rules = tmp_path / "rules"
    monkeypatch.setenv("FAKE_PEERS", str(rules))
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parents[2]}")
    monkeypatch.setattr(run, "WORKER", "fake_peer")
    monkeypatch.setattr(harness.peers, "installed", lambda: True)
    monkeypatch.setattr(catalog, "classes", lambda: [peer.cls for peer in catalog._KNOWN])
    return rules


def call(data: Path, out: Path, models: str, *more: str) -> Result:
    weights = out.parent / "mobilenetv2_050.safetensors"
    weights.write_bytes(b"weights")
    arguments = ["peers", "run", "--data", str(data), "--category", "bolt", "--model", models,
                 "--weights", str(weights), "--size", "32", "--out", str(out), *more]  # fmt: skip
    return CliRunner().invoke(group, arguments)


def metrics_of(out: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for _, record in records.find([out / "results"]):
        found.setdefault(record["method"], []).append(record["metrics"]["image_auroc_max"])
    return found


def test_failures_are_rows_with_a_log_and_a_rerun_fills_only_the_gaps(
    small_dataset: Path, tmp_path: Path, fake: Path
) -> None:
    out, models = tmp_path / "run", "patchcore,padim,stfpm,cflow,dsr,dfm"
    fake.write_text("patchcore done\npadim crash\nstfpm kill\ncflow lacks\ndfm lie\n")
    result = call(small_dataset, out, models)
    assert isinstance(result.exception, IncompleteError)
    assert result.exception.exit_code == 3
    for name in ("padim", "stfpm", "dfm"):
        assert f"{name} · small/bolt · seed 0" in str(result.exception)
    found = metrics_of(out)
    assert found["patchcore"][0]["value"] > 0.4
    for name, said in {
        "padim": "failed: MemoryError: no room for the memory (exit code 1)",
        "stfpm": "failed: killed by SIGKILL after saying: training",
        "dfm": "failed: training (exit code 0)",
        "cflow": "not run: needs a download of x",
        "dsr": "not run: needs its VQ weights",
    }.items():
        assert found[name][0]["value"] is None
        assert found[name][0]["reason"].startswith(said), found[name]
    assert "training" in (out / "padim/small/bolt/seed-0/log.txt").read_text()
    assert "dsr: not run: needs its VQ weights" in result.stderr.splitlines()[0]
    lines = {parts[0]: line for line in result.stdout.splitlines() if (parts := line.split())}
    assert "failed" in lines["padim"]
    assert "not run" in lines["dsr"]
    assert "MiB" in result.stdout
    assert "640" in result.stdout

    fake.write_text("patchcore crash\npadim done\nstfpm done\ncflow lacks\ndfm done\n")
    (out / "calls").unlink()
    again = call(small_dataset, out, models)
    assert again.exception is None, again.output
    assert (out / "calls").read_text().split() == ["padim", "stfpm", "cflow", "dfm"]
    board = CliRunner().invoke(group, ["leaderboard", str(out / "results"), "--json"])
    rows = json.loads(board.stdout)["sections"][0]["rows"]
    assert len(rows) == 6  # a later success takes the failed row's place
    done = {row["method"] for row in rows if row["rank"]}
    assert done == {"patchcore", "padim", "stfpm", "dfm"}
    assert rows[0]["costs"] == {
        "train_seconds": 2.0, "images_per_second": 5.0, "peak_memory_mib": 640.0
    }  # fmt: skip


def test_a_cell_over_its_time_is_stopped(small_dataset: Path, tmp_path: Path, fake: Path) -> None:
    fake.write_text("padim hang\n")
    result = call(small_dataset, tmp_path / "run", "padim", "--minutes", "0.05")
    assert isinstance(result.exception, IncompleteError)
    assert "stopped after 0.05 minutes" in str(result.exception)


def test_finished_cells_are_not_run_again_under_other_options(
    small_dataset: Path, tmp_path: Path, fake: Path
) -> None:
    fake.write_text("padim done\nstfpm crash\n")
    out = tmp_path / "run"
    call(small_dataset, out, "padim,stfpm")
    other = call(small_dataset, out, "padim", "--steps", "7")
    assert isinstance(other.exception, UserError)
    assert "steps: 1000 there, 7 asked" in str(other.exception)
    failed = call(small_dataset, out, "stfpm", "--set", "stfpm.steps=7")
    assert isinstance(failed.exception, IncompleteError)  # a failed cell may be asked anew


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("models", "more", "said"),
    [
        ("patchcor", (), "Did you mean patchcore"),
        ("padim", ("--set", "padim"), "expected MODEL.KEY=VALUE"),
        ("padim", ("--set", "stfpm.steps=3"), "not among the models"),
        ("padim", ("--set", "padim.steps=0"), "whole number"),
        ("padim", ("--seeds", "a"), "expected a number"),
        ("padim", ("--weights", "pretrained"), "name the --backbone of padim"),
        ("padim", ("--textures", "/nowhere"), "no folder"),
        ("padim", ("--weights", "/nowhere/mobilenetv2_050.pt"), "does not exist"),
        ("padim", ("--weights", "/nowhere/mine.pt"), "give --backbone"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    small_dataset: Path, tmp_path: Path, models: str, more: tuple[str, ...], said: str
) -> None:
    result = call(small_dataset, tmp_path / "run", models, *more)
    assert result.exit_code != 0
    assert said in f"{result.exception} {result.output}"
    assert not (tmp_path / "run").exists()


def test_without_the_extra_it_is_said_what_to_install(
    small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.peers, "installed", lambda: False)
    monkeypatch.setattr(catalog, "installed", lambda: False)
    result = call(small_dataset, tmp_path / "run", "patchcore")
    assert isinstance(result.exception, UserError)
    assert result.exception.exit_code == 2
    assert "pip install '.[peers]'" in str(result.exception)
    shown = CliRunner().invoke(group, ["peers", "list"])
    assert shown.exit_code == 0
    assert "patchcore" in shown.stdout
    assert "pip install '.[peers]'" in shown.stderr
