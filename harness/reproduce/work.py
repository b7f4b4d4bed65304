"""Runs the cells of a plan; the files are the truth about what is done.

    OUT/run.json            what was asked: another question needs another folder
    OUT/jobs/<job>.json     a finished command, with its time
    OUT/cells/<cell>.json   a finished or failed cell, with its metrics or the reason
    OUT/logs/<job>.log      what a command said

A cell that fails is named and the others go on; run again, failed cells are tried again and only
gaps are filled. Commands die with this process, so that a killed run leaves nobody writing.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import records
from harness.reproduce.demo import MODULES
from harness.reproduce.plan import Cell, Job, Plan
from sia_gen.core.errors import LockedError, UserError
from sia_gen.core.store.documents import parse_json, read_limited
from sia_gen.core.store.files import read_json, write_json

SCHEMA = 1
_PR_SET_PDEATHSIG = 1


class JobError(Exception):
    """A command that failed, with the reason in one line."""


def _die_with_parent() -> None:
    """Asks the kernel to kill this child when its parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def hold(out: Path) -> Iterator[None]:
    """Holds a folder for one run; LockedError where another one has it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / "lock").open("a+")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise LockedError(
                f"{out} is in use by another run ({file.read().strip() or 'unknown'}): wait for"
                " it, or stop it"
            ) from error
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def claim(out: Path, document: dict[str, Any]) -> None:
    """Writes what was asked to run.json; refuses a folder where something else was asked."""
    path = out / "run.json"
    if path.exists():
        old = read_json(path)
        old = old if isinstance(old, dict) else {}
        keys = sorted(k for k in {*old, *document} if old.get(k) != document.get(k))
        if keys:
            said = "; ".join(f"{k}: {old.get(k)} there, {document.get(k)} asked" for k in keys)
            raise UserError(f"{out} belongs to a run with other options ({said}): give another"
                            " --out")  # fmt: skip
        return
    write_json(path, document)


def _content(path: Path) -> dict[str, Any]:
    """Returns a state file, or {} where there is none or only a torn one."""
    try:
        value = parse_json(read_limited(path))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def cell_state(out: Path, cell: Cell) -> dict[str, Any]:
    """Returns a cell's state as its file tells: {} where nothing of this plan is known."""
    state = _content(out / "cells" / f"{cell.name}.json")
    return state if state.get("spec_hash") == cell.spec_hash else {}


def _reason(log: Path, code: int) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    errors = [line for line in lines if line.startswith("error: ")]
    said = [line for line in lines if line.strip()]
    last = errors[-1].removeprefix("error: ") if errors else said[-1] if said else "said nothing"
    return f"{' '.join(last.split())[:400]} (exit code {code})"


def run_job(out: Path, job: Job) -> str:
    """Runs a job unless it is done, and returns its stdout; JobError with the reason."""
    state_file, log = out / "jobs" / f"{job.name}.json", out / "logs" / f"{job.name}.log"
    state = _content(state_file)
    if state.get("spec_hash") == job.spec_hash:
        return str(state.get("stdout", ""))
    log.parent.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, "-m", MODULES[job.command[0]], *job.command[1:]]
    began = time.monotonic()
    # Only the thread that started a child keeps it alive; elsewhere the kernel would kill it early.
    main = threading.current_thread() is threading.main_thread()
    with log.open("w", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(job.command)}\n")
        file.flush()
        done = subprocess.run(
            program,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            preexec_fn=_die_with_parent if main else None,
        )
        file.write(done.stdout)
    if done.returncode != 0:
        raise JobError(f"{job.command[0]} {job.command[1]}: {_reason(log, done.returncode)}")
    facts = {"command": list(job.command), "seconds": round(time.monotonic() - began, 1)}
    keep = done.stdout if "--json" in job.command else ""
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


def run_cell(out: Path, cell: Cell) -> dict[str, Any]:
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
                if _content(out / "jobs" / f"{job.name}.json").get("spec_hash") != job.spec_hash:
                    failed_jobs.setdefault(job.name, state["reason"])
                    break
        remaining = len(left) - len(times)
        rest = f"; about {remaining * sum(times) / len(times) / 60:.0f} min left" * (remaining > 0)
        said = f"{state['seconds']:.0f} s" if state["state"] == "done" else state["reason"]
        tell(f"[{len(times)}/{len(left)}] {cell.row} · {cell.category} · seed {cell.seed}:"
             f" {state['state']}, {said}{rest}")  # fmt: skip
    return states


def fail(out: Path, cell: Cell, reason: str) -> dict[str, Any]:
    """Writes and returns a failed cell's state."""
    state = {
        "schema": SCHEMA, "spec_hash": cell.spec_hash, "row": cell.row, "category": cell.category,
        "seed": cell.seed, "state": "failed", "reason": reason, "seconds": 0.0,
    }  # fmt: skip
    write_json(out / "cells" / f"{cell.name}.json", state)
    return state
