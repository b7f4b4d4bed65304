"""Mending: what verification condemns is dropped and made again, or what failed is tried again.

Nothing else is touched, and nothing is dropped that cannot be made again.
"""

from __future__ import annotations

from typing import Any

from sia_gen.care.verify import Report, verify
from sia_gen.core.store.objects import Location
from sia_gen.core.store.paths import inside
from sia_gen.core.store.shards import record_path
from sia_gen.generate import contents
from sia_gen.generate.content import Prepared
from sia_gen.generate.executors.attempts import FAILED
from sia_gen.generate.options import ExecutionOptions
from sia_gen.generate.run import run as run_again
from sia_gen.runs import folder, lock
from sia_gen.runs.spec import remaining


def stored(run: Location, *, data: str | None = None, model: str | None = None) -> Prepared:
    """Returns a run as it was begun, checked again, with data and model moved if given."""
    document = folder.read(run)
    return contents.find(document["kind"]).stored(document, str(run), data=data, model=model)


def _drop(run: Location, report: Report) -> list[str]:
    """Removes condemned shards with their records, and leftovers; returns their names.

    Foreign files stay: they are somebody's, and only their owner knows what for.
    """
    dropped: list[str] = []
    condemned: list[Location] = []
    for problem in report.problems:
        if problem.kind in {"index", "foreign"}:
            continue
        # Before anything goes: a name, or a link on its way, that leads out of the run ends this.
        path = inside(run, problem.file, str(run))
        condemned += (path, record_path(path)) if path.suffix == ".tar" else (path,)
    for file in condemned:
        if file.is_file():
            file.unlink()
            dropped.append(folder.relative(run, file))
    return dropped


def repair(
    run: Location,
    execution: ExecutionOptions,
    *,
    data: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Verifies, drops, makes again, and returns the closing figures with what was dropped."""
    prepared = stored(run, data=data, model=model)
    # What is there now must be what was planned, or what was dropped could not be made again.
    folder.require_same(run, prepared.kind, prepared.recipe)
    with lock.hold(run) as token:
        report = verify(run, token=token)
        dropped = _drop(run, report)
    figures = run_again(prepared, execution)
    foreign = [problem.file for problem in report.problems if problem.kind == "foreign"]
    return {**figures, "problems": len(report.problems), "dropped": dropped, "foreign": foreign}


def quarantined(run: Location) -> list[str]:
    """Returns the names of the shards that failed and were given up, and are still missing."""
    missing = {spec.label for spec in remaining(contents.planned(run), run)}
    return sorted(path.stem for path in (run / FAILED).glob("*.json") if path.stem in missing)


def retry(
    run: Location,
    execution: ExecutionOptions,
    *,
    data: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Makes the quarantined shards, and only them, and returns the closing figures."""
    prepared = stored(run, data=data, model=model)
    names = quarantined(run)
    figures = run_again(prepared, execution, only=frozenset(names))
    return {**figures, "retried": names}
