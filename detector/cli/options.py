"""Options that several commands of `detector` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sia_gen.core.commands import Option

DATA_HELP = "A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md)."
RUN = Path("runs/detector")  # where `train` writes and `score` reads, unless told otherwise

device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)


def categories_option(told: str, help_text: str = "all, or names and globs, by commas.") -> Any:
    """Returns --categories; without it the command takes what `told` says."""
    return click.option(
        "--categories",
        cls=Option,
        former=("--category",),
        told=told,
        metavar="NAMES",
        help=help_text,
    )


def data_option(told: str) -> Any:
    """Returns --data; without it the command takes what `told` says."""
    return click.option("--data", cls=Option, told=told, metavar="DATA", help=DATA_HELP)
