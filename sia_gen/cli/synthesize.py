"""`sia-gen synthesize`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click


@click.command(
    "synthesize",
    short_help="Write training pairs (image, mask, provenance) of one method as shards.",
    epilog="""\b
Examples:
  sia-gen synthesize --method cutpaste --data parts --per-category 1000 --out runs/pairs
  sia-gen synthesize --method dtd --textures dtd/images --data mvtec-ad=DIR --out runs/dtd
  sia-gen synthesize --method sdas --shards runs/sia --data parts --out runs/blended
  sia-gen synthesize --method nsa --set clone=mixed --data parts --out runs/nsa

\b
A shard is a WebDataset tar: <key>.png, <key>.mask.png (0 or 255), <key>.json with the
normal image, the seed and the method. Outside its mask an image equals its normal image,
bit for bit. The same command again makes what is missing.
""",
)
@click.option("--method", required=True, metavar="NAME", help="sdas, dtd, nsa, cutpaste or noise.")
@click.option("--out", required=True, metavar="DIR", help="Folder; new, or to be resumed.")
@click.option("--data", default="textures", show_default=True, metavar="DATA", help="Dataset.")
@click.option(
    "--categories",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="all, or names and globs separated by commas.",
)
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Black and white of files of more than 8 bits.  [measured]",
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
@click.option("--workers", type=int, default=1, show_default=True, help="Processes.")
@click.option("--with-normal", "normal", is_flag=True, help="Add <key>.normal.png to each pair.")
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be made, stop.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def synthesize(
    textures: str | None,
    settings: tuple[str, ...],
    workers: int,
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Write pairs of image and mask that one method makes out of normal images."""
    from sia_gen.core.settings import parse_settings
    from sia_gen.pairs.make import StoppedSynthesisError
    from sia_gen.pairs.make import synthesize as make
    from sia_gen.pairs.plan import SynthesisOptions, prepare

    given = parse_settings(settings)
    if textures is not None:
        given["textures"] = textures
    options = SynthesisOptions(**values, settings=tuple(given.items()))
    if dry_run:
        print(json.dumps(prepare(options).document, indent=2))
        return
    try:
        figures = make(options, workers, lambda text: print(text, file=sys.stderr, flush=True))
    except StoppedSynthesisError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(128 + error.signal)
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        made = f"{figures['pairs_made_now']} of {figures['pairs']} pairs made now"
        print(f"{made}, in {figures['out']}", file=sys.stderr)
