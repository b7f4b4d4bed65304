"""A run folder: what may become one, run.json inside it, and leftovers of killed processes.

run.json       what is made (recipe), from which model, with which versions; written once
lock.json      who is at work here
drivers/       who joined them
claims/        which driver makes which shard
progress.json  the last figures of the run at work
shards/        tars and records
failed/        last words of quarantined shards
index.json, wids.json, sizes.json    written at the end, as are
README.md, croissant.json, card/     what people and other programs are told of the images
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.store.files import TEMPORARY_PREFIX, read_json, write_json
from sia_gen.core.store.objects import Location, ObjectPath, locate
from sia_gen.generate.plan import Recipe, difference, specs
from sia_gen.runs import claims, lock
from sia_gen.runs.spec import Spec

NAME = "run.json"
PAIRS = "synthesis.json"  # of a folder of pairs, which is no run
KIND = "sia-gen run"
PACKED = "sia-gen pack"
SCHEMA = 1


def _is_empty(path: Location) -> bool:
    """Whether a folder holds nothing but what a start leaves that was killed at once."""
    return all(
        entry.name in {lock.NAME, lock.DRIVERS, claims.FOLDER}
        or entry.name.startswith(TEMPORARY_PREFIX)
        for entry in path.iterdir()
    )


def _check_address(place: ObjectPath) -> ObjectPath:
    """Returns a place in an object store if it can be a run's."""
    try:
        if place.is_file():
            raise UserError(f"output {place} is an object: give a prefix")
        if not (place / NAME).is_file() and not _is_empty(place):
            raise UserError(f"output {place} holds other objects and no {NAME}: give a new prefix")
    except OSError as error:
        raise UserError(f"output {place} cannot be used: {error}") from error
    return place


def check_output(out: str) -> Location:
    """Returns the absolute output folder if it can be a run's: a run, empty, or not there yet."""
    place = locate(out)
    if isinstance(place, ObjectPath):
        return _check_address(place)
    try:
        path = place.resolve()
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


def require_apart(out: Location, data: Path) -> None:
    """Raises UserError where output and data lie inside each other."""
    if isinstance(out, Path) and (out.is_relative_to(data) or data.is_relative_to(out)):
        message = f"output {out} and data {data} lie inside each other: give another --out"
        raise UserError(message)


def is_there(run: Location) -> bool:
    """Returns whether a run folder still exists; a store's prefix does not vanish by itself."""
    return not isinstance(run, Path) or run.is_dir()


def read(run: Location) -> dict[str, Any]:
    """Returns a run's run.json; UserError where the folder is no run of this program."""
    if not run.is_dir():
        raise UserError(f"run folder {run} does not exist")
    if not (run / NAME).is_file():
        if (run / PAIRS).is_file():
            raise UserError(
                f"{run} holds pairs of `sia-gen synthesize`, not a run: verify and repair read it,"
                " and the same `synthesize` command makes what is missing"
            )
        raise UserError(f"{run} is no run folder: it has no {NAME}; `sia-gen run` makes one")
    content = read_json(run / NAME)
    if not isinstance(content, dict) or content.get("kind") not in (KIND, PACKED):
        raise UserError(f"{run / NAME} is not of a generation run")
    if content.get("schema") != SCHEMA:
        found = content.get("schema")
        raise UserError(f"{run / NAME}: schema {found!r}, this version reads {SCHEMA}")
    return content


def read_recipe(run: Location) -> Recipe:
    """Returns what a run makes; UserError for a packed folder, which makes nothing."""
    content = read(run)
    if content["kind"] == PACKED:
        raise UserError(f"{run} holds packed images, not a run")
    return Recipe.from_json(content.get("recipe", {}))


def planned(run: Location) -> Sequence[Spec]:
    """Returns all shards that a run folder is to hold."""
    content = read(run)
    if content["kind"] == PACKED:
        from sia_gen.care import pack

        return pack.planned(content)
    return specs(Recipe.from_json(content.get("recipe", {})))


def relative(run: Location, path: Location) -> str:
    """Returns a path below a run folder, with forward slashes."""
    return str(path)[len(str(run)) :].lstrip("/")


def require_same(run: Location, recipe: Recipe) -> bool:
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


def start_pack(run: Location, content: dict[str, Any]) -> str:
    """Publishes the run.json of a packed folder and returns when that was first done."""
    if (run / NAME).is_file():
        old = read(run)
        if old["kind"] != PACKED or old.get("shards") != content["shards"]:
            message = (
                f"{run} was made from other files or options: give another --out, or the same"
                " folder to resume"
            )
            raise UserError(message)
        return str(old.get("started", ""))
    started = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(run / NAME, {**content, "started": started})
    return started


def write(run: Location, recipe: Recipe, **facts: Any) -> None:
    """Publishes run.json."""
    content = {"schema": SCHEMA, "kind": KIND, "recipe": recipe.to_json(), **facts}
    write_json(run / NAME, content)


def strays(run: Location) -> list[Location]:
    """Returns the temporary files that killed processes left in a run folder."""
    return sorted(path for path in run.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file())
