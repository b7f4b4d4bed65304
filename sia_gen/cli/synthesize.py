"""`sia-gen synthesize`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from sia_gen.cli.run import as_json, execution_options, how


@click.command(
    "synthesize",
    short_help="Write training pairs (image, mask, provenance) of one method as shards.",
    epilog="""\b
Examples:
  sia-gen synthesize --method cutpaste --data parts --per-category 1000 --out runs/pairs
  sia-gen synthesize --method dtd --textures dtd/images --data mvtec-ad=DIR --out runs/dtd
  sia-gen synthesize --method sdas --shards runs/sia --data parts --out runs/blended
  sia-gen synthesize --method nsa --set clone=mixed --data parts --out runs/nsa
  sia-gen synthesize --method nsa --data parts --out s3://bucket/nsa --executor ray --join

\b
A shard is a WebDataset tar: <key>.png, <key>.mask.png (0 or 255), <key>.json with the
normal image, the seed and the method. Outside its mask an image equals its normal image,
bit for bit. The same command again makes what is missing; status, verify, repair and
retry take the folder.
""",
)
@click.option("--method", required=True, metavar="NAME", help="sdas, dtd, nsa, cutpaste or noise.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    help="Folder or s3://BUCKET/PREFIX; new, or to be resumed.",
)
@click.option("--data", default="textures", show_default=True, metavar="DATA", help="Dataset.")
@click.option(
    "--categories",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="all, or names and globs separated by commas.",
)
@click.option("--per-category", type=int, default=1000, show_default=True, help="Pairs for each.")
@click.option("--resolution", type=int, default=256, show_default=True, help="Pixels a side.")
@click.option("--textures", metavar="DIR", help="Textures for dtd: any folder of images.")
@click.option("--shards", default="", metavar="RUN", help="Run of `sia-gen run`, for sdas.")
@click.option(
    "--foreground",
    default="",
    metavar="RULE",
    help="whole, auto, a rule, or a folder of masks.  [default: the category's]",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A method's option.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the run.")
@click.option("--shard-size", type=int, default=500, show_default=True, help="Pairs in a shard.")
@click.option("--with-normal", "normal", is_flag=True, help="Add <key>.normal.png to each pair.")
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be made, stop.")
@how
@as_json
def synthesize(
    textures: str | None, settings: tuple[str, ...], dry_run: bool, as_json: bool, **values: Any
) -> None:
    """Write pairs of image and mask that one method makes out of normal images."""
    from dataclasses import fields

    from sia_gen.core.settings import parse_settings
    from sia_gen.generate import contents
    from sia_gen.generate.options import SynthesisOptions
    from sia_gen.generate.run import run as make

    given = parse_settings(settings)
    if textures is not None:
        given["textures"] = textures
    # A method that is a kind of content by itself has a module of its own name there.
    method = values["method"].replace("-", "_")
    content = contents.load(method if method in contents.names() else "pairs")
    names = {field.name for field in fields(SynthesisOptions)} - {"settings"}
    options = SynthesisOptions(
        **{name: values[name] for name in names}, settings=tuple(given.items())
    )
    execution = execution_options(values, heavy=content.HEAVY)
    prepared = content.prepare(options)
    if dry_run:
        print(json.dumps(prepared.document, indent=2))
        return
    figures = make(prepared, execution)
    pairs, made = figures["images"], figures["images_made_now"]
    if as_json:
        told = {"method": options.method, "pairs": pairs, "pairs_made_now": made}
        print(json.dumps({**figures, **told}, indent=2))
    else:
        print(f"{made} of {pairs} pairs made now, in {figures['out']}", file=sys.stderr)
