"""`sia-gen synthesize`."""

from __future__ import annotations

from typing import Any

import click

from sia_gen.cli.run import execution_options, how
from sia_gen.core.commands import click_options, json_option, print_json, tell
from sia_gen.generate.options import SynthesisOptions


@click.command(
    "synthesize",
    epilog="""\b
Examples:
  sia-gen synthesize --method cutpaste --data parts --per-category 1000 --out runs/pairs
  sia-gen synthesize --method dtd --textures dtd/images --data mvtec-ad=DIR --out runs/dtd
  sia-gen synthesize --method sdas --shards runs/sia --data parts --out runs/blended
  sia-gen synthesize --method nsa --set clone=mixed --data parts --out runs/nsa
  sia-gen synthesize --method sdas-inplace --model runs/model/model --data parts \\
      --s-range 0.1 1 --depth-range 0.4 0.75 --out runs/in-place
  sia-gen synthesize --method nsa --data parts --out s3://bucket/nsa --executor ray --join

\b
A shard is a WebDataset tar: <key>.png, <key>.mask.png (0 or 255), <key>.json with the
normal image, the seed and the method. Outside its mask an image equals its normal image,
bit for bit. The same command again makes what is missing; status, verify, repair and
retry take the folder.
""",
)
@click_options(SynthesisOptions)
@click.option("--textures", metavar="DIR", help="Textures for dtd: any folder of images.")
@click.option("--model", metavar="MODEL", help="Diffusion model for sdas-inplace.")
@click.option(
    "--s-range", nargs=2, type=float, metavar="LOW HIGH", help="Strengths, for sdas-inplace."
)
@click.option(
    "--depth-range", nargs=2, type=float, metavar="LOW HIGH", help="Depths, for sdas-inplace."
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A method's option.")
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be made, stop.")
@how
@json_option
def synthesize(
    textures: str | None,
    model: str | None,
    s_range: tuple[float, float] | None,
    depth_range: tuple[float, float] | None,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Write pairs of image and mask that one method makes out of normal images."""
    from sia_gen.core.options import parse_settings, taken
    from sia_gen.generate import contents
    from sia_gen.generate.run import run as make

    given = parse_settings(settings)
    flags = {"textures": textures, "model": model, "s_range": s_range, "depth_range": depth_range}
    given |= {name: value for name, value in flags.items() if value is not None}
    # A method that is a kind of content by itself has a module of its own name there.
    method = values["method"].replace("-", "_")
    content = contents.load(method if method in contents.names() else "pairs")
    options = taken(SynthesisOptions, {**values, "settings": tuple(given.items())})
    execution = execution_options(values, heavy=content.HEAVY)
    prepared = content.prepare(options)
    if dry_run:
        print_json(prepared.document)
        return
    figures = make(prepared, execution)
    pairs, made = figures["images"], figures["images_made_now"]
    if as_json:
        told = {"method": options.method, "pairs": pairs, "pairs_made_now": made}
        print_json({**figures, **told})
    else:
        tell(f"{made} of {pairs} pairs made now, in {figures['out']}")
