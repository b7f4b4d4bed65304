"""Options that several commands of the harness share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sia_gen.core.commands import Option, json_option, print_json, tell

__all__ = [
    "DETECTOR",
    "RESULTS",
    "SHARDS",
    "categories_option",
    "data_option",
    "data_root",
    "json_option",
    "print_json",
    "range_option",
    "results_option",
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


def range_option(otherwise: str) -> Any:
    """Returns the option --range LOW HIGH, with what is taken without it."""
    return click.option(
        "--range",
        "value_range",
        type=float,
        nargs=2,
        metavar="LOW HIGH",
        help=f"Black and white of files of more than 8 bits.  [default: {otherwise}]",
    )


data_option = click.option(
    "--data",
    default="textures",
    show_default=True,
    metavar="DATA",
    help="A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md).",
)
categories_option = click.option(
    "--categories",
    cls=Option,
    former=("--category",),
    default="all",
    show_default=True,
    metavar="NAMES",
    help="all, or names and globs separated by commas.",
)
results_option = click.option(
    "--out",
    default=RESULTS,
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="RESULTS",
    help="Results folder; records are added to it, never changed.",
)
