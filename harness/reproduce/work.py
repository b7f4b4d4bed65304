"""Runs the cells of a plan; the files are the truth about what is done.

    OUT/run.json            what was asked: another question needs another folder
    OUT/jobs/<job>.json     a finished command, with its time
    OUT/cells/<cell>.json   a finished or failed cell, with its metrics or the reason
    OUT/logs/<job>.log      what a command said

A cell that fails is named and the others go on; run again, failed cells are tried again and only
gaps are filled. Commands die with this process, so that a killed run leaves nobody writing.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import processes, records
from harness.processes import state_of
from harness.reproduce.plan import Job, Plan, Trial
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import require_same
from sia_gen.core.store.files import read_json, write_json

SCHEMA = 1


class JobError(Exception):
    """A command that failed, with the reason in one line."""


def claim(out: Path, document: dict[str, Any]) -> None:
    """Writes what was asked to run.json; refuses a folder where something else was asked."""
    path = out / "run.json"
    if path.exists():
        require_same(out, read_json(path), document)
        return
    write_json(path, document)


def cell_state(out: Path, cell: Trial) -> dict[str, Any]:
    """Returns a cell's state as its file tells: {} where nothing of this plan is known."""
    state = state_of(out / "cells" / f"{cell.name}.json")
    return state if state.get("spec_hash") == cell.spec_hash else {}


def run_job(out: Path, job: Job) -> str:
    """Runs a job unless it is done, and returns its stdout; JobError with the reason."""
    state_file, log = out / "jobs" / f"{job.name}.json", out / "logs" / f"{job.name}.log"
    state = state_of(state_file)
    if state.get("spec_hash") == job.spec_hash:
        return str(state.get("stdout", ""))
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(job.command)}\n")
        file.flush()
        process = processes.start(
            processes.program_of(job.command), stdout=subprocess.PIPE, stderr=file
        )
        try:
            stdout, _ = process.communicate()
        finally:
            ended = processes.finish(process, 0)
        file.write(stdout)
    if ended.code != 0:
        raise JobError(f"{job.command[0]} {job.command[1]}: {processes.reason(log, ended)}")
    facts = {"command": list(job.command), "seconds": round(time.monotonic() - began, 1)}
    keep = stdout if "--json" in job.command else ""
    write_json(state_file, {"schema": SCHEMA, "spec_hash": job.spec_hash, **facts, "stdout": keep})
    return keep


def _metrics(stdout: str) -> dict[str, Any]:
    try:
        found = json.loads(stdout)
        (record,) = found
        records.validate(record, "the measuring command's output")
    except (ValueError, TypeError, UserError) as error:
        raise JobError(f"the measuring command gave no single record: {error}") from error
    return dict(record["metrics"])


def run_cell(out: Path, cell: Trial) -> dict[str, Any]:
    """Runs what a cell lacks, writes its state and returns it; a failure is a state too."""
    state = cell_state(out, cell)
    if state.get("state") == "done":
        return state
    began = time.monotonic()
    facts = {"schema": SCHEMA, "spec_hash": cell.spec_hash, "row": cell.row,
             "category": cell.category, "seed": cell.seed}  # fmt: skip
    try:
        stdout = ""
        for job in cell.jobs:
            stdout = run_job(out, job)
        state = {**facts, "state": "done", "metrics": _metrics(stdout)}
    except JobError as error:
        state = {**facts, "state": "failed", "reason": str(error)}
    state["seconds"] = round(time.monotonic() - began, 1)
    write_json(out / "cells" / f"{cell.name}.json", state)
    return state


def run_in_order(
    out: Path, plan: Plan, tell: Callable[[str], None]
) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Runs the cells one after the other and returns their states by (row, category, seed)."""
    states = {}
    times: list[float] = []
    failed_jobs: dict[str, str] = {}
    left = [c for c in plan.cells if cell_state(out, c).get("state") != "done"]
    tell(f"{len(plan.cells)} cells, {len(plan.cells) - len(left)} done before")
    for cell in plan.cells:
        fresh = cell in left
        broken = next((j.name for j in cell.jobs if j.name in failed_jobs), None)
        if fresh and broken is not None:  # a shared job fails once a run, not once a cell
            state = fail(out, cell, failed_jobs[broken])
        else:
            state = run_cell(out, cell)
        states[cell.row, cell.category, cell.seed] = state
        if not fresh:
            continue
        times.append(state["seconds"])
        if state["state"] == "failed":
            for job in cell.jobs:
                if state_of(out / "jobs" / f"{job.name}.json").get("spec_hash") != job.spec_hash:
                    failed_jobs.setdefault(job.name, state["reason"])
                    break
        remaining = len(left) - len(times)
        rest = f"; about {remaining * sum(times) / len(times) / 60:.0f} min left" * (remaining > 0)
        said = f"{state['seconds']:.0f} s" if state["state"] == "done" else state["reason"]
        tell(f"[{len(times)}/{len(left)}] {cell.row} · {cell.category} · seed {cell.seed}:"
             f" {state['state']}, {said}{rest}")  # fmt: skip
    return states


def fail(out: Path, cell: Trial, reason: str) -> dict[str, Any]:
    """Writes and returns a failed cell's state."""
    state = {
        "schema": SCHEMA, "spec_hash": cell.spec_hash, "row": cell.row, "category": cell.category,
        "seed": cell.seed, "state": "failed", "reason": reason, "seconds": 0.0,
    }  # fmt: skip
    write_json(out / "cells" / f"{cell.name}.json", state)
    return state
