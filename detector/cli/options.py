"""What several commands of `detector` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import locate


class Checkpoint(click.ParamType):
    """A checkpoint's folder, or its address (hf://OWNER/NAME), of which a local copy is made."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Returns the local folder; UserError where the address cannot be read."""
        del param, ctx
        return value if isinstance(value, Path) else local_folder(locate(value))


checkpoint_argument = click.argument("checkpoint", type=Checkpoint())
