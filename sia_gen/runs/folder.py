"""A run folder: what may become one, run.json inside it, and leftovers of killed processes.

run.json       what is made (kind, recipe), from what, with which versions; written once
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
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.store.files import TEMPORARY_PREFIX, create_bytes, read_json, to_json, write_json
from sia_gen.core.store.objects import Location, ObjectPath, locate, require_writable
from sia_gen.runs import claims, lock
from sia_gen.runs.spec import SHOWN, difference

NAME = "run.json"
FORMER = "synthesis.json"  # what `sia-gen synthesize` wrote before it had run.json
KINDS = "sia-gen "  # what every kind of content begins with
SCHEMA = 1


def document_path(run: Location) -> Location:
    """Returns where a run folder says what it is: run.json, or its former name."""
    former = run / FORMER
    return former if not (run / NAME).is_file() and former.is_file() else run / NAME


def _foreign(path: Location) -> str:
    """Returns the name of something that no run left here, or "": a killed start leaves little."""
    ours = {lock.NAME, lock.DRIVERS, claims.FOLDER}
    names = sorted(entry.name for entry in path.iterdir())
    foreign = [n for n in names if n not in ours and not n.startswith(TEMPORARY_PREFIX)]
    # In this order: another driver may begin here meanwhile, and run.json is its first file.
    return "" if not foreign or document_path(path).is_file() else foreign[0]


def _check_address(place: ObjectPath) -> ObjectPath:
    """Returns a place in an object store if it can be a run's."""
    try:
        if place.is_file():
            raise UserError(f"output {place} is an object: give a prefix")
        if foreign := _foreign(place):
            message = f"output {place} holds other objects ({foreign}) and no {NAME}"
            raise UserError(f"{message}: give a new prefix")
    except OSError as error:
        raise UserError(f"output {place} cannot be used: {error}") from error
    return place


def check_output(out: str) -> Location:
    """Returns the absolute output folder if it can be a run's: a run, empty, or not there yet."""
    place = locate(out)
    if isinstance(place, ObjectPath):
        require_writable(place)
        return _check_address(place)
    try:
        path = place.resolve()
        if path.exists() and not path.is_dir():
            raise UserError(f"output {out} is a file: give a folder")
        if path.is_dir() and (foreign := _foreign(path)):
            message = f"output {out} is a folder with other content ({foreign}) and no {NAME}"
            raise UserError(f"{message}: give a new folder")
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
    path = document_path(run)
    if not path.is_file():
        raise UserError(f"{run} is no run folder: it has no {NAME}; `sia-gen run` makes one")
    content = read_json(path)
    if not isinstance(content, dict) or not str(content.get("kind")).startswith(KINDS):
        raise UserError(f"{path} is not of a generation run")
    if content.get("schema") != SCHEMA:
        found = content.get("schema")
        raise UserError(f"{path}: schema {found!r}, this version reads {SCHEMA}")
    return content


def recipe_of(content: dict[str, Any]) -> dict[str, Any]:
    """Returns what a run.json says is made; packed folders once had their shards beside it."""
    recipe = content.get("recipe", {"shards": content.get("shards")})
    if not isinstance(recipe, dict):
        raise UserError(f"{NAME}: its recipe is not readable: expected a JSON object")
    return recipe


def relative(run: Location, path: Location) -> str:
    """Returns a path below a run folder, with forward slashes."""
    return str(path)[len(str(run)) :].lstrip("/")


def require_same(run: Location, kind: str, recipe: dict[str, Any], *, alone: bool = True) -> bool:
    """Returns whether the folder already is a run; UserError with a diff if it is another one.

    A run that has made nothing yet binds nobody, unless other drivers may be at work on it.
    """
    if not document_path(run).is_file():
        return False
    content = read(run)
    if content["kind"] != kind:
        raise UserError(f"{run} is of `{content['kind']}`, not of `{kind}`: give another --out")
    lines = difference(recipe_of(content), recipe)
    if lines and alone and not any((run / "shards").rglob("*.json")):
        return False
    if lines:
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        changed = [line for line in lines if ".normal_images_sha256" in line.partition(":")[0]]
        if len(changed) == len(lines):
            raise UserError(
                f"the normal images were changed since {run} was begun ({'; '.join(lines[:SHOWN])}"
                f"{more}): put them back, or give another --out"
            )
        message = (
            f"{run} belongs to a run with other options or other files:"
            f" {'; '.join(lines[:SHOWN])}{more}. Give another --out, or the same options to resume"
        )
        raise UserError(message)
    return True


def document(kind: str, recipe: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Returns the content of run.json."""
    return {"schema": SCHEMA, "kind": kind, "recipe": recipe, **facts}


def begin(
    run: Location,
    kind: str,
    recipe: dict[str, Any],
    content: dict[str, Any],
    *,
    alone: bool = False,
) -> None:
    """Publishes run.json; of several drivers that begin together the first one's stays.

    Whoever holds the folder `alone` replaces that of a run which has made nothing.
    """
    if create_bytes(run / NAME, to_json(content)):
        return
    if not require_same(run, kind, recipe, alone=alone):
        write_json(run / NAME, content)


_WRITER = re.compile(r"-(\d+)-[0-9a-f]{8}$")  # who is writing a temporary file: its pid


def _in_hand(path: Location) -> bool:
    """Returns whether another living process of this host may be writing a temporary file."""
    found = _WRITER.search(path.name)
    if not isinstance(path, Path) or found is None or int(found[1]) == os.getpid():
        return False
    with suppress(OSError):
        os.kill(int(found[1]), 0)
        return time.time() - path.stat().st_mtime < 600
    return False


def sweep(run: Location) -> None:
    """Removes the temporary files that killed processes left in a run folder."""
    for path in strays(run):
        if not _in_hand(path):
            path.unlink(missing_ok=True)


def strays(run: Location) -> list[Location]:
    """Returns the temporary files that killed processes left in a run folder."""
    return sorted(path for path in run.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file())
