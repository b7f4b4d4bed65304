"""Records: one JSON file per result, append-only; the truth about what was measured, and how.

    RESULTS/records/<kind>-<hash>.json     one result of one category
    RESULTS/examples/<hash>.jpg            pictures that records refer to

A record's name is the hash of its content, so that measuring twice writes one file, concurrent
writers cannot spoil each other's, and a file changed later is found out. `protocol` holds all that
must agree before two records may share a row; `run` holds what belongs to this one result.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError, VerificationError
from sia_gen.core.provenance import hash_options, sha256_bytes
from sia_gen.core.store.documents import parse_json, read_limited
from sia_gen.core.store.files import TEMPORARY_PREFIX, write_bytes, write_json

Record = dict[str, Any]

SCHEMA = 1
MAX_BYTES = 2**22  # of a record
FOLDER = "records"
EXAMPLES = "examples"

_TEXT = {"type": "string", "minLength": 1}
_METRIC = {
    "type": "object",
    "required": ["metric", "version", "higher_is_better", "value"],
    "additionalProperties": False,
    "properties": {
        "metric": _TEXT,
        "version": {"type": "integer", "minimum": 1},
        "higher_is_better": {"type": "boolean"},
        "value": {"type": ["number", "null"]},
        "reason": _TEXT,  # why there is no value
        "n": {"type": "array", "items": {"type": "integer", "minimum": 0}},  # images compared
        # 95 % over test images (harness/measure/bootstrap.py); absent in records of older versions.
        "interval": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    },
    # A value or the reason why there is none; never both, never neither.
    "allOf": [
        {"anyOf": [{"properties": {"value": {"type": "number"}}}, {"required": ["reason"]}]},
        {"anyOf": [{"properties": {"reason": False}}, {"properties": {"value": {"type": "null"}}}]},
    ],
}
_PICTURE = {"type": "string", "pattern": r"^examples/[0-9a-f]{16}\.jpg$"}
_EXAMPLE = {
    "type": "object",
    "required": ["file", "path", "defect", "score", "outcome"],
    "additionalProperties": False,
    "properties": {
        "file": _PICTURE,
        "path": {"type": "string"},
        "defect": {"type": "string"},
        "score": {"type": "number"},
        "outcome": {"enum": ["found", "missed", "false alarm", "quiet"]},
        "tiles": {"type": "array", "items": _TEXT},
    },
}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_CURVE = {"type": "array", "items": _NUMBERS, "minItems": 2, "maxItems": 2}  # [[x], [y]]
_NEAREST = {
    "type": "object",
    "required": ["file", "synthetic", "train", "distance"],
    "additionalProperties": False,
    "properties": {
        "file": _PICTURE,
        "synthetic": _TEXT,
        "train": _TEXT,
        "distance": {"type": "number", "minimum": 0},
        "network": _TEXT,
    },
}
DOCUMENT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "sia-gen result record",
    "type": "object",
    "required": [
        "schema", "kind", "dataset", "category", "category_kind", "method", "source", "seed",
        "protocol", "run", "metrics", "counts", "notes", "artifacts", "code", "created",
    ],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": SCHEMA},
        "kind": {"enum": ["detection", "quality"]},
        "dataset": _TEXT,
        "category": _TEXT,
        "category_kind": {"enum": ["texture", "object", "unknown"]},
        "method": _TEXT,
        "source": _TEXT,
        "seed": {"type": ["integer", "null"]},
        "protocol": {"type": "object"},
        "run": {"type": "object"},
        "metrics": {"type": "object", "minProperties": 1, "additionalProperties": _METRIC},
        "counts": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
        "notes": {"type": "array", "items": _TEXT},
        "artifacts": {
            "type": "object",
            "properties": {
                "examples": {"type": "array", "items": _EXAMPLE},
                "curves": {"type": "object", "additionalProperties": _CURVE},
                "strength": {"type": "array", "items": {"type": "object"}},
                "nearest": {"type": "array", "items": _NEAREST},
            },
        },
        "code": {"type": "object", "additionalProperties": {"type": "string"}},
        "created": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
    },
}  # fmt: skip


def now() -> str:
    """Returns the time in UTC as ISO text with seconds, whatever the machine's time zone."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def identity(record: Record) -> str:
    """Returns the record's name: its kind and the hash of all its content but the time."""
    content = {key: value for key, value in record.items() if key != "created"}
    return f"{record['kind']}-{hash_options(content)[:16]}"


@cache
def _accept() -> Callable[[Any], Any]:
    """Returns the schema as compiled code: 20,000 records in seconds instead of a minute."""
    import fastjsonschema

    # Of a curve's many numbers the types are asked for at once, and not one by one.
    document: Any = copy.deepcopy(DOCUMENT)
    kinds = document["properties"]["artifacts"]["properties"]
    del kinds["curves"]["additionalProperties"]["items"]["items"]
    compiled: Callable[[Any], Any] = fastjsonschema.compile(document, use_default=False)

    def accept(record: Any) -> None:
        compiled(record)
        for curve in record["artifacts"].get("curves", {}).values():
            for axis in curve:
                if not {int, float}.issuperset(map(type, axis)):
                    raise ValueError("a curve holds something else than numbers")

    return accept


def validate(record: Any, where: str) -> None:
    """Raises UserError where a record does not follow the schema; the message names the place."""
    if isinstance(record, dict) and record.get("schema", SCHEMA) != SCHEMA:
        raise UserError(
            f"{where}: record schema {record['schema']!r} is not {SCHEMA}: written by another"
            " version of this project"
        )
    try:
        _accept()(record)
        return
    except ValueError:  # fastjsonschema says that something is wrong, jsonschema says what best
        import jsonschema
    errors = jsonschema.Draft202012Validator(DOCUMENT).iter_errors(record)
    error = next(iter(sorted(errors, key=lambda e: [str(p) for p in e.absolute_path])), None)
    if error is not None:
        place = "/".join(str(part) for part in error.absolute_path) or "top level"
        raise UserError(f"{where} is no result record: at {place}: {error.message[:200]}")


def write(results: Path, record: Record) -> Path:
    """Publishes a record and returns its file; the same result again leaves the first untouched."""
    try:
        name = identity(record)
    except ValueError as error:
        raise UserError(f"a record cannot hold NaN or infinite values: {error}") from error
    path = results / FOLDER / f"{name}.json"
    validate(record, str(path))
    if not path.exists():
        write_json(path, record)
    return path


def read(path: Path) -> Record:
    """Returns one record, checked against the schema and against the hash in its name."""
    try:
        record = parse_json(read_limited(path, MAX_BYTES), numbers=True)
        name = identity(record) if isinstance(record, dict) and "kind" in record else ""
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON: {error}") from error
    validate(record, str(path))
    if path.stem != name:
        raise VerificationError(
            f"{path} does not match its name: it was changed after it was written; measure again"
        )
    return dict(record)


def find(results: Iterable[Path], *, empty: bool = False) -> list[tuple[Path, Record]]:
    """Returns (results folder, record) for every record, sorted by name; duplicates once.

    Raises UserError for a missing folder, for a file that is no record, and where there is none
    (unless `empty` allows that).
    """
    found: dict[str, tuple[Path, Record]] = {}
    folders = list(results)
    # Records are trees: nothing for the collector, which would walk all of them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        _collect(folders, found, empty)
    finally:
        if collecting:
            gc.enable()
    if not found and not empty:
        listed = ", ".join(str(f) for f in folders)
        raise UserError(
            f"{listed} holds no record: run `harness evaluate` or `harness quality` first"
        )
    return [found[name] for name in sorted(found)]


def _collect(folders: list[Path], found: dict[str, tuple[Path, Record]], empty: bool) -> None:
    for folder in folders:
        if not folder.is_dir():
            if empty and not folder.exists():
                continue
            raise UserError(f"results {folder}: no such folder; `harness evaluate` writes one")
        for path in sorted((folder / FOLDER).glob("*.json"), key=lambda path: path.name):
            if not path.name.startswith(TEMPORARY_PREFIX):
                found.setdefault(path.stem, (folder, read(path)))


def write_example(results: Path, jpeg: bytes) -> str:
    """Publishes a picture and returns its name relative to the results folder."""
    name = f"{EXAMPLES}/{sha256_bytes(jpeg)[:16]}.jpg"
    if not (results / name).exists():
        write_bytes(results / name, jpeg)
    return name
