"""Cells one after the other, each in a process of its own, with a log; finished ones are kept.

OUT/<model>/<dataset>/<category>/seed-<n>/
    spec.json     what was asked, down to the last argument
    log.txt       all that the process said
    scores/       the score folder, published in one step
    result.json   what became of the process: done, or not run
    state.json    what became of the cell: done, failed or not run, with the reason
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import processes
from harness.peers.plan import Trial, protocol
from harness.processes import state_of
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import require_same
from sia_gen.core.store.files import write_json
from sia_gen.core.store.held import held

DONE, FAILED, NOT_RUN = "done", "failed", "not run"
WORKER = "harness.peers.worker"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a cell: its state, the reason, its folder, and whether it ran just now."""

    cell: Trial
    state: str
    reason: str
    folder: Path
    fresh: bool


def is_done(folder: Path, cell: Trial) -> bool:
    """Returns whether a cell's folder holds this very cell, finished."""
    state = state_of(folder / "state.json")
    same = state.get("spec_hash") == cell.spec_hash and state.get("state") == DONE
    return same and (folder / "scores" / "scores.json").is_file()


def check_claims(cells: Iterable[Trial], out: Path) -> None:
    """Raises UserError where OUT holds a finished cell that was asked for with other options."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")
    for cell in cells:
        folder = cell.folder(out)
        state, old = state_of(folder / "state.json"), state_of(folder / "spec.json")
        if state.get("state") != DONE or state.get("spec_hash") == cell.spec_hash:
            continue
        require_same(folder, old, cell.spec, free={"data", "paths", "device", "protocol"})


def run_process(folder: Path, minutes: float | None) -> tuple[str, str]:
    """Runs the worker on a cell's folder; returns the state and the reason."""
    log, result = folder / "log.txt", folder / "result.json"
    result.unlink(missing_ok=True)
    # A bar that is drawn a thousand times over would bury what the log is read for.
    environment = dict(os.environ, PYTHONUNBUFFERED="1", TQDM_MININTERVAL="30")
    with log.open("w", encoding="utf-8") as file:
        process = processes.start(
            [sys.executable, "-m", WORKER, str(folder)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        ended = processes.finish(process, None if minutes is None else minutes * 60)
    if ended.expired:
        return FAILED, f"stopped after {minutes:g} minutes, the limit; see {log}"
    found = state_of(result)
    if ended.code == 0 and found.get("state") in {DONE, NOT_RUN}:
        return str(found["state"]), str(found.get("reason", ""))
    return FAILED, f"{processes.reason(log, ended)}; see {log}"


def run_cell(cell: Trial, out: Path, minutes: float | None) -> Outcome:
    """Runs a cell unless it is finished or lacks something, and writes its state."""
    folder = cell.folder(out)
    if is_done(folder, cell):
        return Outcome(cell=cell, state=DONE, reason="", folder=folder, fresh=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").unlink(missing_ok=True)
    write_json(folder / "spec.json", cell.spec | {"protocol": protocol(cell)})
    began = time.monotonic()
    if cell.lacks:
        state, reason = NOT_RUN, f"needs {cell.lacks}"
    else:
        state, reason = run_process(folder, minutes)
    facts = {"schema": 1, "spec_hash": cell.spec_hash, "state": state}
    facts |= {"reason": reason} if reason else {}
    write_json(folder / "state.json", facts | {"seconds": round(time.monotonic() - began, 1)})
    return Outcome(cell=cell, state=state, reason=reason, folder=folder, fresh=True)


def run(
    cells: list[Trial],
    out: Path,
    *,
    minutes: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
    publish: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Runs the cells in order and returns what became of each; `publish` is called after each."""
    check_claims(cells, out)
    with held(out):
        for peer in dict.fromkeys(c.peer.name for c in cells):
            lacks = next(c.lacks for c in cells if c.peer.name == peer)
            if lacks:
                tell(f"{peer}: not run: needs {lacks}")
        outcomes = []
        for number, cell in enumerate(cells, 1):
            began = time.monotonic()
            outcome = run_cell(cell, out, minutes)
            outcomes.append(outcome)
            publish(outcome)
            took = f", {time.monotonic() - began:.0f} s" if outcome.fresh else " before"
            said = f": {outcome.reason}" if outcome.reason else took
            tell(f"[{number}/{len(cells)}] {cell.label}: {outcome.state}{said}")
    return outcomes
