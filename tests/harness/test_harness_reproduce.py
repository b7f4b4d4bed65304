"""Reproducing tables: cells from recipes, resuming, failed cells, and the printed comparison."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness import processes
from harness.processes import hold
from harness.reproduce import plan as planning
from harness.reproduce import table as tables
from harness.reproduce import work
from harness.reproduce.plan import Options, Plan, plan
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import LockedError, UserError

HERE = Path(__file__).parent
RECIPE = """\
reproduce:
  paper: realnet
  metrics: {image_auroc: image_auroc_max, pro: pro_0.3}
  sources: {sdas: [model]}
  budgets:
    small:
      seeds: [0]
      recipe: none
      numbers: {steps: 3, per_category: 4}
      shipped_models: {}
      train_model: sia-gen train --data {data} --out {folder}
      synthesise: >-
        sia-gen run --data {data} --categories {category} --model {model} --s-range {s}
        --out {folder}
      train: >-
        detector train --category {category} {shards} --steps {steps} {arguments} --out {folder}
      score: detector score --run {folder} --category {category}
      measure: harness evaluate {scores} --out {results} --json
  tables:
    5a:
      title: Two parts
      rows:
        - name: RDR without RRS
          method: realnet+sdas
          setting: "reduction=rdr;rrs=off"
          arguments: --set rrs=off
        - {name: AFS with RRS, method: realnet+sdas, setting: "reduction=afs;rrs=on"}
    "1":
      title: By category
      form: categories
      rows:
        - {name: SDAS, method: realnet+sdas}
        - {name: noise, method: realnet+noise, source: noise}
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose commands are the fake ones; rules and the list of calls lie in `fake`."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "own.yaml").write_text(RECIPE)
    for name in ("sia-gen", "detector"):
        monkeypatch.setitem(processes.MODULES, name, "fake_commands")
    monkeypatch.setenv("FAKE_COMMANDS", str(tmp_path / "fake"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    return tmp_path


def asked(room: Path, data: Path, table: str = "5a", **more: Any) -> Plan:
    options = Options(table=f"{room}/own.yaml:{table}", data=str(data), out=room / "out", **more)
    return plan(options, open_dataset(data))


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
        ({"numbers": (("epochs", "3"),)}, "has no 'epochs'"),
        ({"budget": "paper"}, "budget 'paper' is unknown"),
    ],
)
def test_mistakes_are_named(
    room: Path, small_dataset: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        asked(room, small_dataset, **change)


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
    with hold(tmp_path / "out"), pytest.raises(LockedError), hold(tmp_path / "out"):
        pass
    with hold(tmp_path / "out"):
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
        run = subprocess.run(
            [
                sys.executable, "-m", "harness.cli", "reproduce", f"{recipe}:x", "--data",
                str(small_dataset), "--out", str(out), "--executor", executor, "--json",
            ],
            capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        found.append(json.loads(run.stdout)["entries"])
        assert len(list((out / "cells").glob("*.json"))) == 2
    assert found[0] == found[1]
    assert found[0][0]["measured"] is not None


# Tables.


def fake_states(made: Plan, value: float = 0.5) -> tables.States:
    metrics = {name: {"value": value} for name in ("image_auroc_max", "pro_0.3")}
    return {
        (c.row, c.category, c.seed): {"state": "done", "metrics": metrics, "seconds": 0.0}
        for c in made.cells
    }


def test_a_comparison_has_a_line_a_category(room: Path, small_dataset: Path) -> None:
    made = asked(room, small_dataset, table="1")
    text = tables.render(made, fake_states(made), "table")
    lines = [line.split() for line in text.splitlines()]
    assert ["bolt", "-", "50.00", "-", "-", "50.00", "-"] in lines
    assert ["mean", "99.65", "50.00", "-", "-", "50.00", "-"] in lines


def test_means_over_seeds_have_a_deviation_and_gaps_have_none(
    room: Path, small_dataset: Path
) -> None:
    made = asked(room, small_dataset, seeds=(0, 1))
    states = fake_states(made)
    for category in ("bolt", "cloth"):
        states["AFS with RRS", category, 1] = {
            "state": "done", "seconds": 0.0,
            "metrics": {
                "image_auroc_max": {"value": 0.7},
                "pro_0.3": {"value": None, "reason": "x"},
            },
        }  # fmt: skip
    by = {(e.place, e.row, e.metric): e for e in tables.entries(made, states)}
    auroc = by["mean", "AFS with RRS", "image_auroc"]
    assert (auroc.measured, auroc.seeds) == (pytest.approx(60.0), 2)
    assert auroc.std == pytest.approx(14.142, abs=1e-3)
    pro = by["mean", "AFS with RRS", "pro"]
    assert (pro.measured, pro.std, pro.seeds) == (pytest.approx(50.0), None, 1)
    assert pro.reason == "undefined: x (bolt, seed 1)"
    del states["AFS with RRS", "cloth", 0]
    gap = {(e.place, e.row, e.metric): e for e in tables.entries(made, states)}
    assert gap["mean", "AFS with RRS", "pro"].measured is None


@pytest.mark.parametrize("form", tables.FORMATS)
def test_names_are_safe_in_every_form(room: Path, small_dataset: Path, form: str) -> None:
    (room / "own.yaml").write_text(RECIPE.replace("AFS with RRS", "A & <b>_|x"))
    made = asked(room, small_dataset)
    text = tables.render(made, fake_states(made), form)
    if form == "latex":
        assert r"A \& \textless{}b\textgreater{}\_|x" in text
    if form == "md":
        assert r"A &amp; &lt;b&gt;\_\|x" in text


def test_differences_stand_only_between_alike(room: Path, small_dataset: Path) -> None:
    from dataclasses import replace

    made = asked(room, small_dataset)
    row = made.rows[0]
    same = replace(
        made, measured_on="mvtec-ad", categories=(("carpet", "texture"), ("grid", "texture"))
    )

    def why(plan: Plan, place: str = "carpet", metric: str = "image_auroc", **of: Any) -> str:
        entry = {"value": 0.5, **of}
        found = dict.fromkeys(("image_auroc_max", "fid@inception", "fid@tiny-random"), entry)
        states = {(row.name, "carpet", 0): {"state": "done", "metrics": found}}
        names = ["carpet"] if place == "carpet" else ["carpet", "grid"]
        return tables.unlike(plan, states, row, place, names, metric)

    assert "measured on small" in why(made)
    assert why(same, n=[89, 28]) == ""
    assert "the dataset has 89 and 28" in why(same, n=[88, 28])
    assert why(same, "mean", n=[89, 28]) == "mean over 2 categories, the paper's over 15"
    row = replace(row, setting="images=1000;runs=3")
    for network, n, said in (
        ("inception", [1000, 89], ""),
        ("inception", [64, 89], "published of 1000 synthetic images, measured of 64"),
        ("tiny-random", [1000, 89], "published over inception, measured over tiny-random"),
    ):
        quality = replace(same, kind="quality", metrics={"fid": f"fid@{network}"})
        assert why(quality, metric="fid", n=n) == said


def test_a_dry_run_says_what_a_table_still_needs(tmp_path: Path) -> None:
    from harness.reproduce.needs import needs

    options = Options(table="realnet/S6", data="textures", out=tmp_path, budget="paper")
    said = needs(plan(options, open_dataset("textures")), options)
    assert said[0] == "data: mvtec-ad, not textures: --data mvtec-ad=DIR"
    assert said[1] == "textures: DTD blend them in: --textures DIR"
    assert any(line.startswith("weights: inception: ") for line in said)
    options = Options(table="redi/5", data="textures", out=tmp_path, budget="paper")
    said = needs(plan(options, open_dataset("textures")), options)
    assert any("recipe redi takes timm's wide_resnet50_2.tv_in1k" in line for line in said)
