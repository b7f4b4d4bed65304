"""Mending: what verification condemns is dropped and made again, or what failed is tried again.

Nothing else is touched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.settings import from_json
from sia_gen.core.store.objects import Location
from sia_gen.core.store.paths import inside
from sia_gen.core.store.shards import record_path
from sia_gen.generate.executors.attempts import FAILED
from sia_gen.generate.options import ExecutionOptions, RunOptions
from sia_gen.generate.plan import remaining, specs
from sia_gen.generate.run import prepare
from sia_gen.generate.run import run as run_again
from sia_gen.runs import folder as run_folder
from sia_gen.runs import lock
from sia_gen.runs.verify import Report, verify


def stored_options(run: Location, *, data: str | None, model: str | None) -> RunOptions:
    """Returns the options that a run was started with, with data and model moved if given."""
    content = run_folder.read(run)
    if content["kind"] == run_folder.PACKED:
        raise UserError(f"{run} holds packed images: there is no model that made them")
    where = f"{run / run_folder.NAME}: options"
    options: RunOptions = from_json(RunOptions, content.get("options"), where)
    try:
        located = {"data": data or content["data"], "model": model or content["model"]["located"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{run / run_folder.NAME}: lacks {error}: give --data, --model") from error
    for name, place in located.items():
        if not isinstance(place, str):
            raise UserError(f"{run / run_folder.NAME}: {name} is no text: give --{name}")
    return replace(options, out=str(run), data=located["data"], model=located["model"])


def drop(run: Location, report: Report) -> list[str]:
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
            dropped.append(run_folder.relative(run, file))
    return dropped


def repair(
    run: Location,
    execution: ExecutionOptions,
    *,
    data: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Verifies, drops, makes again, and returns the closing figures with what was dropped."""
    if run_folder.read(run)["kind"] == run_folder.PACKED:
        return _repair_packed(run)
    options = stored_options(run, data=data, model=model)
    prepare(options)  # what cannot be made again is not dropped
    with lock.hold(run) as token:
        report = verify(run, token=token)
        dropped = drop(run, report)
    figures = run_again(options, execution)
    foreign = [problem.file for problem in report.problems if problem.kind == "foreign"]
    return {**figures, "problems": len(report.problems), "dropped": dropped, "foreign": foreign}


def _repair_packed(run: Location) -> dict[str, Any]:
    from sia_gen.care import pack

    content = run_folder.read(run)
    options = pack.stored_options(content, str(run))
    if pack.scan(options) != pack.planned(content):
        raise UserError(
            f"{run} was made from other files than {options.source} holds now: nothing is dropped;"
            " bring the files back, or pack into another folder"
        )
    with lock.hold(run) as token:
        report = verify(run, token=token)
        dropped = drop(run, report)
    figures = pack.pack(options)
    foreign = [problem.file for problem in report.problems if problem.kind == "foreign"]
    return {**figures, "problems": len(report.problems), "dropped": dropped, "foreign": foreign}


def quarantined(run: Location) -> list[str]:
    """Returns the names of the shards that failed and were given up, and are still missing."""
    missing = {spec.name for spec in remaining(specs(run_folder.read_recipe(run)), run)}
    return sorted(path.stem for path in (run / FAILED).glob("*.json") if path.stem in missing)


def retry(
    run: Location,
    execution: ExecutionOptions,
    *,
    data: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Makes the quarantined shards, and only them, and returns the closing figures."""
    options = stored_options(run, data=data, model=model)
    names = quarantined(run)
    figures = run_again(options, execution, only=frozenset(names))
    return {**figures, "retried": names}
