"""Options that several commands of `detector` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sia_gen.core.commands import Option
from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import locate

DATA_HELP = "A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md)."
RUN = Path("runs/detector")  # where `train` writes and `score` reads, unless told otherwise

device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)


class Checkpoint(click.ParamType):
    """A checkpoint's folder, or its address (hf://OWNER/NAME), of which a local copy is made."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Returns the local folder; UserError where the address cannot be read."""
        del param, ctx
        return value if isinstance(value, Path) else local_folder(locate(value))


checkpoint_argument = click.argument("checkpoint", type=Checkpoint())


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
