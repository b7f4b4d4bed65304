"""`detector info`."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import checkpoint_argument
from sia_gen.core.commands import json_option, print_json


@click.command(
    epilog="""\b
Example:
  detector info runs/detector/textures/brick
""",
)
@checkpoint_argument
@json_option
def info(checkpoint: Path, as_json: bool) -> None:
    """Tell what a checkpoint is: recipe, backbone, data, training, threshold."""
    from detector.inference.info import describe, read

    facts = read(checkpoint)
    if as_json:
        print_json(facts)
    else:
        print(describe(facts))
