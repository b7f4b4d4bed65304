"""A run folder: what may become one, run.json inside it, and leftovers of killed processes.

run.json       what is made (recipe), from which model, with which versions; written once
lock.json      who is at work here
progress.json  the last figures of the run at work
shards/        tars and records
failed/        last words of quarantined shards
index.json, wids.json, sizes.json    written at the end
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sia_gen import lock
from sia_gen.core.errors import UserError
from sia_gen.core.files import TEMPORARY_PREFIX, read_json, write_json
from sia_gen.plan import Recipe, difference

NAME = "run.json"
KIND = "sia-gen run"
SCHEMA = 1


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing but what a start leaves that was killed at once."""
    return all(
        entry.name == lock.NAME or entry.name.startswith(TEMPORARY_PREFIX)
        for entry in path.iterdir()
    )


def check_output(out: str) -> Path:
    """Returns the absolute output folder if it can be a run's: a run, empty, or not there yet."""
    try:
        path = Path(out).resolve()
        if path.exists() and not path.is_dir():
            raise UserError(f"output {out} is a file: give a folder")
        if path.is_dir() and not (path / NAME).is_file() and not _is_empty(path):
            message = (
                f"output {out} is a folder with other content and no {NAME}: give a new folder"
            )
            raise UserError(message)
        nearest = path
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            raise UserError(f"output {out}: {nearest} is a file, no folder can be made in it")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(f"output {out}: no permission to write to {nearest}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"output {out!r} cannot be used: {reason}") from error
    return path


def require_apart(out: Path, data: Path) -> None:
    """Raises UserError where output and data lie inside each other."""
    if out.is_relative_to(data) or data.is_relative_to(out):
        message = f"output {out} and data {data} lie inside each other: give another --out"
        raise UserError(message)


def read(run: Path) -> dict[str, Any]:
    """Returns a run's run.json; UserError where the folder is no run of this program."""
    if not run.is_dir():
        raise UserError(f"run folder {run} does not exist")
    if not (run / NAME).is_file():
        raise UserError(f"{run} is no run folder: it has no {NAME}; `sia-gen run` makes one")
    content = read_json(run / NAME)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{run / NAME} is not of a generation run")
    if content.get("schema") != SCHEMA:
        found = content.get("schema")
        raise UserError(f"{run / NAME}: schema {found!r}, this version reads {SCHEMA}")
    return content


def read_recipe(run: Path) -> Recipe:
    """Returns what a run makes."""
    return Recipe.from_json(read(run).get("recipe", {}))


def require_same(run: Path, recipe: Recipe) -> bool:
    """Returns whether the folder already is a run; UserError with a diff if it is another one."""
    if not (run / NAME).is_file():
        return False
    lines = difference(read(run).get("recipe", {}), recipe.to_json())
    if lines:
        message = (
            f"{run} belongs to a run with other options: {'; '.join(lines)}. Give another --out, or"
            " the same options to resume"
        )
        raise UserError(message)
    return True


def write(run: Path, recipe: Recipe, **facts: Any) -> None:
    """Publishes run.json."""
    content = {"schema": SCHEMA, "kind": KIND, "recipe": recipe.to_json(), **facts}
    write_json(run / NAME, content)


def strays(run: Path) -> list[Path]:
    """Returns the temporary files that killed processes left in a run folder."""
    return sorted(path for path in run.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file())
