"""Options that several commands of the harness share."""

from __future__ import annotations

from pathlib import Path

import click

from sia_gen.core.commands import Option, json_option, print_json, tell

__all__ = [
    "categories_option",
    "data_option",
    "json_option",
    "print_json",
    "results_option",
    "tell",
]

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
    default="runs/results",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="RESULTS",
    help="Results folder; records are added to it, never changed.",
)
