"""What a folder of synthetic images was made from, as its own record says."""

from __future__ import annotations

from dataclasses import dataclass

from sia_gen.core.store.files import read_json
from sia_gen.core.store.objects import Location

RECORDS = ("run.json", "synthesis.json")
LEVELS = 4  # a tar lies so deep below its run


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """The --data and the categories (dataset/name) of a run, and where that is recorded."""

    data: str
    categories: tuple[str, ...]
    record: Location


def made_from(shards: Location) -> MadeFrom | None:
    """Returns what the run was made from that `shards` is, or lies in; None where nothing says."""
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


def _read(path: Location) -> MadeFrom | None:
    if not path.is_file():
        return None
    content = read_json(path)
    options = content.get("options", {}) if isinstance(content, dict) else {}
    data = content.get("data") or options.get("data") if isinstance(content, dict) else None
    recipe = content.get("recipe", {}) if data else {}
    categories = recipe.get("categories", ())
    if not data or not categories:
        return None
    return MadeFrom(data=str(data), categories=tuple(map(str, categories)), record=path)
