"""`sia-gen pack`: an existing folder of images as shards."""

from __future__ import annotations

from typing import Any

import click

from sia_gen.core.commands import click_options, json_option, print_json, tell
from sia_gen.generate.options import ExecutionOptions, PackOptions


@click.command(
    "pack",
    epilog="""\b
Example:
  sia-gen pack SIA/ --out runs/released
The folder holds DIR/<category>/**/*.jpg, or images directly: one category. PNG, JPEG and
WebP files keep their bytes.
""",
)
@click.argument("source", metavar="DIR")
@click_options(PackOptions)
@json_option
def pack(as_json: bool, **values: Any) -> None:
    """Pack the images below DIR into shards with records, indices and a dataset card."""
    from sia_gen.generate.contents.packed import prepare
    from sia_gen.generate.run import run as make

    figures = make(prepare(PackOptions(**values)), ExecutionOptions(executor="local"))
    if as_json:
        print_json(figures)
    else:
        tell(f"{figures['images']} images in {figures['out']}")
