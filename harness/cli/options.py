"""Options that several commands of the harness share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sia_gen.core.commands import json_option, print_json, tell
from sia_gen.core.options import option

__all__ = [
    "DETECTOR",
    "RESULTS",
    "SHARDS",
    "data_root",
    "images_root",
    "json_option",
    "print_json",
    "results",
    "say_next",
    "show",
    "tell",
]

# Where the commands of this project write unless told otherwise, and so where the next one reads.
SHARDS = "runs/sia"
DETECTOR = Path("runs/detector")
RESULTS = Path("runs/results")


def data_root(data: str | None) -> Path | None:
    """Returns the folder of a dataset: one that is given as it is, or any address of --data."""
    if data is None or Path(data).is_dir():
        return None if data is None else Path(data)
    from sia_gen.core.data.dataset import open_dataset

    return open_dataset(data).root


def images_root() -> Any:
    """Returns the field of --data where score files name images by relative path."""
    text = "Where test images lie that score files name by relative path: a dataset or a folder."
    return option(None, text, metavar="DATA")


def results() -> Any:
    """Returns the field of --out where it is a results folder."""
    text = "Results folder; records are added to it, never changed."
    return option(RESULTS, text, metavar="RESULTS")


def say_next(out: Path) -> None:
    """Says how to rank what was written to a results folder."""
    tell(f"next: harness leaderboard{'' if out == RESULTS else f' {out}'}")


def show(found: list[dict[str, Any]], out: Path, as_json: bool) -> None:
    """Prints records of a results folder as JSON, or as a leaderboard of their own."""
    if as_json:
        print_json(found)
        return
    from harness.board.build import build
    from harness.board.tables import as_text

    print(as_text(build([(out, record) for record in found])), end="")
