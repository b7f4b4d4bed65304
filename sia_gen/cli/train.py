"""`sia-gen train`: a class-conditional diffusion model on the normal images of a dataset."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.recipes import read_recipe
from sia_gen.diffusion.options import TrainOptions

EPILOG = """\b
Examples:
  sia-gen train --data photos/ --out runs/model
  sia-gen train --recipe textures-64 --out runs/textures-64
  sia-gen train --data mvtec-ad/ --preset adm-256 --resolution 256 --batch-size 5 --out runs/adm
  torchrun --nproc-per-node 4 -m sia_gen.cli train --data photos/ --out runs/model
"""


def merged_options(given: dict[str, Any]) -> TrainOptions:
    """Returns the run's options: defaults, then the recipe's, then what the command line gives."""
    recipe = given.pop("recipe", None)
    options: dict[str, Any] = read_recipe(recipe, "train") if recipe else {}
    known = [field.name for field in fields(TrainOptions)]
    for name in options:
        if name not in known:
            raise UserError(
                f"recipe {recipe}: option {name!r} is unknown.{near_names(name, known)}"
            )
    options |= {name: value for name, value in given.items() if value is not None}
    options.setdefault("categories", "all")
    if "data" not in options:
        raise UserError("train: give --data with a folder in MVTec-AD's layout, or a --recipe")
    return TrainOptions(**options)


@click.command(epilog=EPILOG)
@click.option("--data", help="A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md).")
@click.option("--categories", help="Names or globs, separated by commas; default all.")
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Black and white of files of more than 8 bits.  [measured]",
)
@click.option("--out", required=True, help="Folder of the run; the model comes to OUT/model.")
@click.option("--recipe", help="Named options from manifests/recipes, or a YAML file.")
@click.option("--preset", help="Network: adm-256, adm-128, small-128, small-64 (default), tiny-16.")
@click.option("--prediction", help="epsilon (default, as published) or v_prediction (small runs).")
@click.option("--resolution", type=int, help="Side of the images in pixels; default 64.")
@click.option("--steps", type=int, help="Optimiser steps; default 10000.")
@click.option("--batch-size", type=int, help="Images a step and process; default 16.")
@click.option("--accumulate", type=int, help="Batches a step; default 1.")
@click.option("--learning-rate", type=float, help="Adam's; default 1e-4.")
@click.option("--warmup", type=int, help="Steps of linear warm-up; default 0.")
@click.option("--decay/--no-decay", default=None, help="Cosine decay to a twentieth; default off.")
@click.option("--ema", type=float, help="Decay of the averaged weights; default 0.9999.")
@click.option("--finish-from", type=int, help="Step from which only sampling's timesteps train.")
@click.option("--finish-steps", type=int, help="Sampling steps to finish for; default 20.")
@click.option("--seed", type=int, help="Decides weights, batches and noise; default 0.")
@click.option("--precision", help="auto, fp32, bf16 or fp16; default auto.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; default auto.")
@click.option("--init", help="A model folder to start from.")
@click.option("--channels", help="auto (1 where every image is gray), 1 or 3.")
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=None)
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints; default 500.")
@click.option("--keep", type=int, help="Checkpoints kept; default 2.")
@click.option("--sample-every", type=int, help="Steps between looks: sample grid, health; 0: none.")
@click.option("--health-images", type=int, help="s = 0 samples a category for the health check.")
@click.option(
    "--save-precision", help="Precision of the saved weights: fp32 (default), fp16, bf16."
)
def train(**given: Any) -> None:
    """Train a diffusion model on normal images; run again, it resumes.

    The finished model is a diffusers folder with its health measured: how near its s = 0 samples
    are to normal images it has not seen.
    """
    options = merged_options(given)
    from sia_gen.diffusion.train import train as run

    click.echo(str(run(options)))
