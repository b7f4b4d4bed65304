"""What a folder of synthetic images was made from, as its own record says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.store.files import is_there, read_json
from sia_gen.core.store.objects import Location

RECORDS = ("run.json", "synthesis.json")
LEVELS = 4  # a tar lies so deep below its run


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """The --data and the categories (dataset/name) of a run, and where that is recorded.

    `value_ranges`: what its files of more than 8 bits were read with, by category (dataset/name).
    """

    data: str
    categories: tuple[str, ...]
    record: Location
    value_ranges: dict[str, Any]


def made_from(shards: Location) -> MadeFrom | None:
    """Returns what the run was made from that `shards` is, or lies in; None where nothing says."""
    if isinstance(shards, Path) and not is_there(str(shards)):
        return None
    folder = shards
    for _ in range(LEVELS + 1):
        for name in RECORDS:
            found = _read(folder / name)
            if found is not None:
                return found
        if folder.parent == folder:
            break
        folder = folder.parent
    return None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read(path: Location) -> MadeFrom | None:
    try:
        found = path.is_file()
    except OSError:  # too long a name
        return None
    if not found:
        return None
    content = _object(read_json(path))
    data = content.get("data") or _object(content.get("options")).get("data")
    categories = _object(content.get("recipe")).get("categories")
    if not data or not categories or not isinstance(categories, dict | list):
        return None
    # Of a model's images beside the recipe; of pairs each category says its own.
    each = _object(categories).items()
    ranges = {key: own["value_range"] for key, own in each if _object(own).get("value_range")}
    return MadeFrom(
        data=str(data),
        categories=tuple(map(str, categories)),
        record=path,
        value_ranges=_object(content.get("value_ranges")) | ranges,
    )
