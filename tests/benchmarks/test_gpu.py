"""The script for a machine with a GPU: its plan, and every stage in small on the CPU."""

from __future__ import annotations

import time
from pathlib import Path

import gpu
import gpu_stages
import pytest
from click.testing import CliRunner


def test_the_plan_fills_the_budget_and_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = gpu.limits(10.0, set())
    assert sum(given.values()) == pytest.approx(600.0)
    rest = gpu.limits(5.0, {"machine", "sampling"})
    assert sum(rest.values()) == pytest.approx(300.0) and "sampling" not in rest
    monkeypatch.setattr(gpu, "NEEDED", ["torch", "no_such_package"])
    result = CliRunner().invoke(gpu.main, ["--dry-run"])
    assert result.exit_code == 0 and "missing here: no_such_package" in result.output
    assert all(stage.name in result.output for stage in gpu.STAGES)
    refused = CliRunner().invoke(gpu.main, ["--small"])
    assert refused.exit_code == 2 and "no_such_package" in refused.output


@pytest.mark.parametrize("name", [stage.name for stage in gpu.STAGES])
def test_a_stage_runs_in_small_and_records_what_it_measured(name: str, tmp_path: Path) -> None:
    gpu_stages.run(name, gpu.recorder(tmp_path, name), small=True, deadline=time.monotonic() + 600)
    rows = gpu.read_rows(tmp_path / f"{name}.jsonl")
    assert len(rows) > 1 and rows[-1]["what"] == "stage ended"
    assert not [row for row in rows if {"failed", "reason"} & set(row)], rows
    assert "done" in {row.get("ended", "done") for row in rows}, rows
    gpu.write_results(tmp_path)
    assert gpu.finished(tmp_path) == {name}
    assert rows[0]["what"] in (tmp_path / "results.md").read_text()


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "machine.jsonl").write_text('{"what": "a", "x": 1}\n{"what": "b", "x"')
    assert [row["what"] for row in gpu.read_rows(tmp_path / "machine.jsonl")] == ["a"]
