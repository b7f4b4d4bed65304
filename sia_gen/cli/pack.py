"""`sia-gen pack`: an existing folder of images as shards."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from sia_gen.cli.run import as_json
from sia_gen.core.text import say


@click.command(
    "pack",
    short_help="Turn an existing folder of images into the same shards.",
    epilog="""\b
Example:
  sia-gen pack SIA/ --out runs/released
The folder holds DIR/<category>/**/*.jpg, or images directly: one category. PNG, JPEG and
WebP files keep their bytes.
""",
)
@click.argument("source", metavar="DIR")
@click.option("--out", required=True, metavar="DIR", help="Run folder or s3://BUCKET/PREFIX.")
@click.option(
    "--dataset", default="", metavar="NAME", help="Name of the dataset.  [default: DIR's name]"
)
@click.option("--shard-size", type=int, default=1000, show_default=True, help="Images in a shard.")
@as_json
def pack(as_json: bool, **values: Any) -> None:
    """Pack the images below DIR into shards with records, indices and a dataset card."""
    from sia_gen.care.pack import PackOptions
    from sia_gen.care.pack import pack as make

    figures = make(PackOptions(**values), say)
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{figures['images']} images in {figures['out']}", file=sys.stderr)
