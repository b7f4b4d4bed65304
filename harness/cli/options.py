"""Options and outputs that several commands of the harness share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sia_gen.core.text import say

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def tell(text: str) -> None:
    """Writes a line of progress to stderr."""
    say(text)


def print_json(value: Any) -> None:
    """Writes a JSON value to stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


data_option = click.option(
    "--data",
    default="textures",
    show_default=True,
    metavar="DIR",
    help="A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md).",
)
category_option = click.option(
    "--category",
    "--categories",
    "category",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="all, or names and globs separated by commas.",
)
results_option = click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RESULTS",
    help="Results folder; records are added to it, never changed.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Records as JSON on stdout.")
