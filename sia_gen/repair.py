"""Repair: what verification condemns is dropped and made again, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sia_gen import lock, run_folder
from sia_gen.core.errors import UserError
from sia_gen.core.shards import record_path
from sia_gen.options import ExecutionOptions, RunOptions
from sia_gen.run import prepare
from sia_gen.run import run as run_again
from sia_gen.verify import Report, verify


def stored_options(run: Path, *, data: str | None, model: str | None) -> RunOptions:
    """Returns the options that a run was started with, with data and model moved if given."""
    content = run_folder.read(run)
    try:
        options = RunOptions(**content["options"])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{run / run_folder.NAME}: its options are not readable: {error}"
        ) from error
    return replace(
        options,
        out=str(run),
        data=data or content["data"],
        model=model or content["model"]["located"],
    )


def drop(run: Path, report: Report) -> list[str]:
    """Removes condemned shards with their records, and leftovers; returns their names.

    Foreign files stay: they are somebody's, and only their owner knows what for.
    """
    dropped: list[str] = []
    for problem in report.problems:
        path = run / problem.file
        if problem.kind in {"index", "foreign"}:
            continue
        for file in (path, record_path(path)) if path.suffix == ".tar" else (path,):
            if file.is_file():
                file.unlink()
                dropped.append(file.relative_to(run).as_posix())
    return dropped


def repair(
    run: Path, execution: ExecutionOptions, *, data: str | None = None, model: str | None = None
) -> dict[str, Any]:
    """Verifies, drops, makes again, and returns the closing figures with what was dropped."""
    options = stored_options(run, data=data, model=model)
    prepare(options)  # what cannot be made again is not dropped
    with lock.hold(run):
        report = verify(run)
        dropped = drop(run, report)
    figures = run_again(options, execution)
    foreign = [problem.file for problem in report.problems if problem.kind == "foreign"]
    return {**figures, "problems": len(report.problems), "dropped": dropped, "foreign": foreign}
