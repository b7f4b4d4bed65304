"""Reproducing tables: cells from recipes, resuming, and failed cells."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from reproduce_support import RECIPE, asked

from harness.cli.main import group
from harness.reproduce import plan as planning
from harness.reproduce import table as tables
from harness.reproduce import work
from harness.reproduce.plan import Options, plan
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import LockedError, UserError
from sia_gen.core.store.held import held


def calls(room: Path) -> list[str]:
    file = room / "fake" / "calls"
    return file.read_text().splitlines() if file.exists() else []


def quiet(_: str) -> None:
    pass


# Plans.


def test_every_shipped_table_expands_under_both_budgets(tmp_path: Path) -> None:
    listed = list(planning.listed())
    wanted = {"1", "3", "5a", "5b", "fig5", "S1", "S2", "S3", "S4", "S5", "S6"}
    assert {name for name, _ in listed} >= {f"realnet/{table}" for table in wanted}
    assert {name for name, _ in listed} >= {f"redi/{n}" for n in (1, 2, *range(4, 12))}
    dataset = open_dataset("textures")
    for name, title in listed:
        assert title
        for budget in ("small", "paper"):
            options = Options(table=name, data="textures", out=tmp_path, budget=budget)
            made = plan(options, dataset)
            assert made.cells
            for cell in made.cells:
                assert cell.jobs[-1].command[0] == "harness"
                assert "--json" in cell.jobs[-1].command
                assert not any("{" in word for job in cell.jobs for word in job.command)


def test_published_settings_of_shipped_tables_are_those_of_the_csv(tmp_path: Path) -> None:
    from harness.board.published import of_table

    for name, _ in planning.listed():
        made = plan(
            Options(table=name, data="textures", out=tmp_path, budget="paper"),
            open_dataset("textures"),
        )
        known = of_table(made.paper, made.table)
        if name == "realnet/fig5":  # the paper prints curves
            assert not known
            continue
        for row in made.rows:
            settings = {(key[1], key[2]) for key in known}
            assert (row.method, row.setting) in settings, f"{name}: {row}"
        assert {key[3] for key in known} >= set(made.metrics), name


def test_shared_jobs_are_the_same_job(room: Path, small_dataset: Path) -> None:
    made = asked(room, small_dataset)
    assert len(made.cells) == 4
    shards = [cell.jobs[1] for cell in made.cells if cell.category == "bolt"]
    assert shards[0] == shards[1]
    assert len({cell.jobs[0] for cell in made.cells}) == 1  # one diffusion model for all
    assert len({cell.name for cell in made.cells}) == 4
    train = made.cells[0].jobs[2].command
    assert train[train.index("--steps") + 1] == "3"
    assert train[-4:-2] == ("--set", "rrs=off")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "9z"}, "has no table '9z'"),
        ({"rows": "nothing*"}, "matches no row"),
        ({"categories": "bott"}, "Did you mean bolt"),
        ({"budget": "paper"}, "budget 'paper' is unknown"),
    ],
)
def test_mistakes_are_named(
    room: Path, small_dataset: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        asked(room, small_dataset, **change)


def test_a_number_that_a_budget_has_not_is_named(room: Path, small_dataset: Path) -> None:
    other = RECIPE.replace("numbers: {steps: 3, ", "numbers: {epochs: 3, ")
    (room / "own.yaml").write_text(other)
    with pytest.raises(UserError, match="has no 'steps'"):
        asked(room, small_dataset, steps=2)


def test_names_that_would_share_a_file_are_told_apart() -> None:
    assert planning.slug("bolt") == "bolt"
    assert planning.slug("a b") != planning.slug("a-b")
    assert planning.slug("../x").startswith("x-")
    assert planning.slug("<script>").isascii()


# Work.


def test_cells_run_once_and_the_table_compares(room: Path, small_dataset: Path) -> None:
    made = asked(room, small_dataset, categories="bolt")
    states = work.run_in_order(room / "out", made, quiet)
    assert {state["state"] for state in states.values()} == {"done"}
    # 1 model, 1 set of shards, then train and score for each of 2 cells
    assert len(calls(room)) == 1 + 1 + 4
    again = work.run_in_order(room / "out", made, quiet)
    assert again == states
    assert len(calls(room)) == 6
    document = json.loads(tables.render(made, states, "json"))
    entry = next(
        e for e in document["entries"]
        if (e["place"], e["row"], e["metric"]) == ("mean", "AFS with RRS", "image_auroc")
    )  # fmt: skip
    assert entry["published"] == 99.65
    value = states["AFS with RRS", "bolt", 0]["metrics"]["image_auroc_max"]["value"]
    assert entry["measured"] == pytest.approx(100 * value)
    assert entry["difference"] is None  # other images: no verdict on either
    assert entry["unlike"] == "published on mvtec-ad, measured on small"
    text = tables.render(made, states, "table")
    assert "99.65" in text
    assert "published on mvtec-ad, measured on small" in text


def test_a_failed_cell_is_named_the_others_go_on_and_only_the_gap_is_filled(
    room: Path, small_dataset: Path
) -> None:
    made = asked(room, small_dataset, categories="bolt")
    (room / "fake" / "rrs=off.break").touch()
    states = work.run_in_order(room / "out", made, quiet)
    failed = {key for key, state in states.items() if state["state"] == "failed"}
    assert failed == {("RDR without RRS", "bolt", 0)}
    reason = states["RDR without RRS", "bolt", 0]["reason"]
    assert reason == "detector train: rrs=off is broken on purpose (exit code 2)"
    text = tables.render(made, states, "table")
    assert "failed: RDR without RRS, bolt, seed 0: detector train: rrs=off is broken" in text
    before = len(calls(room))
    (room / "fake" / "rrs=off.break").unlink()
    states = work.run_in_order(room / "out", made, quiet)
    assert {state["state"] for state in states.values()} == {"done"}
    assert [c.split()[0] for c in calls(room)[before:]] == ["train", "score"]


def test_a_shared_job_that_fails_is_not_tried_for_every_cell(
    room: Path, small_dataset: Path
) -> None:
    made = asked(room, small_dataset, categories="bolt")
    (room / "fake" / "--s-range.break").touch()
    states = work.run_in_order(room / "out", made, quiet)
    assert {state["state"] for state in states.values()} == {"failed"}
    assert sum(call.startswith("run ") for call in calls(room)) == 1  # once for both rows


def test_torn_state_files_count_as_nothing(room: Path, small_dataset: Path) -> None:
    made = asked(room, small_dataset, categories="bolt", rows="AFS*")
    work.run_in_order(room / "out", made, quiet)
    (file,) = (room / "out" / "cells").glob("*.json")
    file.write_text(file.read_text()[:40])
    for job in (room / "out" / "jobs").glob("train*.json"):
        job.write_text("")
    states = work.run_in_order(room / "out", made, quiet)
    assert {state["state"] for state in states.values()} == {"done"}


def command(room: Path, data: Path, *more: str) -> list[str]:
    code = (
        "import sys; from harness import processes\n"
        "processes.MODULES.update({'sia-gen': 'fake_commands', 'detector': 'fake_commands'})\n"
        "from harness.cli.main import main; main()"
    )
    return [sys.executable, "-c", code, "reproduce", f"{room}/own.yaml:5a", "--data", str(data),
            "--category", "bolt", "--out", str(room / "out"), *more]  # fmt: skip


def test_killed_in_the_middle_it_resumes_and_nobody_writes_on(
    room: Path, small_dataset: Path
) -> None:
    hang = room / "fake" / "rrs=off --out.hang"
    hang.touch()
    running = subprocess.Popen(
        command(room, small_dataset), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not any("rrs=off" in call for call in calls(room)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = subprocess.run(command(room, small_dataset), capture_output=True, text=True)
    assert second.returncode == 5
    assert "in use by another run (pid" in second.stderr
    running.send_signal(signal.SIGKILL)
    running.wait()
    hang.unlink()
    done = subprocess.run(command(room, small_dataset), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "AFS with RRS" in done.stdout
    # The training that hung was killed with its parent: its cell ran again, whole.
    assert sum("rrs=off" in c and c.startswith("train") for c in calls(room)) == 2
    assert {p.suffix for p in (room / "out").glob("table.*")} == {
        ".txt", ".md", ".csv", ".json", ".tex",
    }  # fmt: skip


def test_exit_3_where_cells_failed_and_other_options_need_another_folder(
    room: Path, small_dataset: Path
) -> None:
    (room / "fake" / "rrs=off.break").touch()
    run = subprocess.run(command(room, small_dataset, "--json"), capture_output=True, text=True)
    assert run.returncode == 3
    assert "1 of 2 cells failed" in run.stderr
    document = json.loads(run.stdout.partition('{"error"')[0])
    assert document["table"] == "5a"
    other = subprocess.run(
        command(room, small_dataset, "--steps", "9"), capture_output=True, text=True
    )
    assert other.returncode == 2
    assert "belongs to a run with other options (numbers" in other.stderr


def test_one_folder_one_run(tmp_path: Path) -> None:
    with held(tmp_path / "out"), pytest.raises(LockedError), held(tmp_path / "out"):
        pass
    with held(tmp_path / "out"):
        pass


@pytest.mark.ray
def test_on_ray_the_cells_are_those_of_one_after_the_other(
    small_dataset: Path, tmp_path: Path
) -> None:
    # Workers know no fake commands: the plain baseline stands in for training.
    recipe = tmp_path / "plain.yaml"
    recipe.write_text(
        "reproduce:\n"
        "  paper: realnet\n"
        "  source: none\n"
        "  metrics: {image_auroc: image_auroc_max}\n"
        "  budgets:\n"
        "    small:\n"
        "      train: harness baseline --data {data} --category {category} --out {folder}\n"
        "      score: harness weights list\n"
        "      measure: harness evaluate {scores} --out {results} --json\n"
        "  tables: {x: {title: plain, rows: [{name: plain}]}}\n"
    )
    found = []
    for executor in ("local", "ray"):
        out = tmp_path / executor
        words = ["reproduce", f"{recipe}:x", "--data", str(small_dataset), "--out", str(out)]
        words += ["--executor", executor, "--json"]
        if executor == "local":
            run = CliRunner().invoke(group, words)
            assert run.exit_code == 0, run.stderr
        else:  # its cluster is its own
            program = [sys.executable, "-m", "harness.cli", *words]
            run = subprocess.run(program, capture_output=True, text=True)
            assert run.returncode == 0, run.stderr
        found.append(json.loads(run.stdout)["entries"])
        assert len(list((out / "cells").glob("*.json"))) == 2
    assert found[0] == found[1]
    assert found[0][0]["measured"] is not None
