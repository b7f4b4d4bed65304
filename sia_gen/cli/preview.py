"""`sia-gen preview`."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from sia_gen.core.text import say
from sia_gen.generate.options import PRECISIONS, SAMPLERS


@click.command(
    "preview",
    short_help="Draw a contact sheet: normal images beside rising strengths.",
    epilog="""\b
Example:
  sia-gen preview --out sheet.png --columns 6 --strengths 0,0.1,0.2
  sia-gen preview --out methods.png --data parts --methods all --textures dtd/images
  sia-gen preview --out foreground.png --data parts --foregrounds
""",
)
@click.option("--out", required=True, metavar="FILE.png", help="The contact sheet.")
@click.option("--data", default="textures", show_default=True, metavar="DIR", help="Dataset.")
@click.option(
    "--categories",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="all, or names and globs separated by commas.",
)
@click.option(
    "--model",
    default="textures-64",
    show_default=True,
    metavar="MODEL",
    help="Name of a shipped model, or a folder written by `sia-gen train`.",
)
@click.option("--columns", type=int, default=6, show_default=True, help="Images in a row.")
@click.option(
    "--strengths",
    default="0,0.1,0.2",
    show_default=True,
    metavar="LIST",
    help="One row for each strength, all rows from the same seeds.",
)
@click.option("--scale", type=int, default=2, show_default=True, help="Enlarges each pixel.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sheet.")
@click.option("--steps", type=int, default=20, show_default=True, help="Sampling steps.")
@click.option(
    "--sampler",
    type=click.Choice(SAMPLERS),
    default="iddpm",
    show_default=True,
    help="iddpm: the ancestral reverse step; ddim: DDIM with perturbation.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Precision of the network.",
)
@click.option(
    "--guidance",
    default="",
    metavar="DIR",
    help="Classifier folder of `sia-gen import`: steers images to their category.  [off]",
)
@click.option(
    "--guidance-scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Weight of the classifier's gradient.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option(
    "--methods",
    default="",
    metavar="NAMES",
    help="Show these synthesis methods instead: all, or names (sdas,dtd,nsa,cutpaste).",
)
@click.option("--foregrounds", is_flag=True, help="Show where an anomaly may be placed.")
@click.option(
    "--foreground", default="", metavar="RULE", help="Rule or mask folder, in place of the own."
)
@click.option("--shards", default="", metavar="RUN", help="Run of `sia-gen run`, for sdas.")
@click.option("--textures", default="", metavar="DIR", help="Texture folder, for dtd.")
@click.option(
    "--resolution", type=int, default=256, show_default=True, help="Pixels a side, with --methods."
)
def preview(
    methods: str,
    foregrounds: bool,
    foreground: str,
    shards: str,
    textures: str,
    resolution: int,
    **values: Any,
) -> None:
    """Draw normal images above synthetic ones of rising strength, column by column of one seed."""
    if methods or foregrounds or foreground:
        from sia_gen.pairs.preview import MethodPreviewOptions, make_method_preview, parse_methods

        shared = {k: values[k] for k in ("out", "data", "categories", "columns", "scale", "seed")}
        if click.get_current_context().get_parameter_source("scale") == ParameterSource.DEFAULT:
            shared["scale"] = 1  # photographs at 256 pixels need no enlarging
        options = MethodPreviewOptions(
            methods=parse_methods(methods, shards, textures),
            foregrounds=foregrounds,
            foreground=foreground,
            shards=shards,
            textures=textures,
            resolution=resolution,
            **shared,
        )
        print(make_method_preview(options, say))
        return
    from sia_gen.generate.preview import PreviewOptions, make_preview, parse_strengths

    values["strengths"] = parse_strengths(values["strengths"])
    out = make_preview(PreviewOptions(**values), say)
    print(out)
