"""`sia-gen train`: a class-conditional diffusion model on the normal images of a dataset."""

from __future__ import annotations

from typing import Any

import click

from sia_gen.core.commands import click_options, given
from sia_gen.core.errors import UserError
from sia_gen.core.options import read_values
from sia_gen.core.recipes import read_recipe
from sia_gen.diffusion.options import TrainOptions

EPILOG = """\b
Examples:
  sia-gen train --data photos/ --out runs/model
  sia-gen train --recipe textures-64 --out runs/textures-64
  sia-gen train --data mvtec-ad/ --preset adm-256 --resolution 256 --batch-size 5 --out runs/adm
  torchrun --nproc-per-node 4 -m sia_gen.cli train --data photos/ --out runs/model
"""


def merged_options(recipe: str | None, asked: dict[str, Any]) -> TrainOptions:
    """Returns the run's options: defaults, then the recipe's, then what the command line gives."""
    options: dict[str, Any] = {}
    if recipe:
        options = read_values(TrainOptions, read_recipe(recipe, "train"), f"recipe {recipe}")
    if asked.get("tiles") and "resolution" not in asked:  # a recipe's is for whole images
        options["resolution"] = asked["tiles"]
    options |= asked
    if "data" not in options:
        raise UserError("train: give --data with a folder in MVTec-AD's layout, or a --recipe")
    return TrainOptions(**options)


@click.command(epilog=EPILOG)
@click.option("--recipe", help="Named options from manifests/recipes, or a YAML file.")
@click_options(TrainOptions, layered=True, out={"required": True})
def train(recipe: str | None, **values: Any) -> None:
    """Train a diffusion model on normal images; run again, it resumes.

    The finished model is a diffusers folder with its health measured: how near its s = 0 samples
    are to normal images it has not seen.
    """
    options = merged_options(recipe, given(values))
    from sia_gen.diffusion.train import train as run

    click.echo(str(run(options)))
