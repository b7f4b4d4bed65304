"""`harness peers`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import (
    categories_option,
    data_option,
    json_option,
    print_json,
    tell,
)
from sia_gen.core.commands import Group, Option
from sia_gen.core.errors import IncompleteError, UserError

EPILOG = """\b
Example:
  harness peers list
  harness peers run --model patchcore,padim --data parts --categories bolt \\
      --weights mobilenetv2_100.safetensors --out runs/peers

\b
They need anomalib: pip install 'sia-gen[peers]'. See docs/peers.md.
"""


@click.group(cls=Group, epilog=EPILOG)
def peers() -> None:
    """Run other people's detectors on the same images, weights and metrics."""


@peers.command(
    "list",
    epilog="""\b
Examples:
  harness peers list
  harness peers list --published
""",
)
@click.option("--published", is_flag=True, help="The systems of the papers' tables instead.")
@click.option("--json", "as_json", is_flag=True, help="The list as JSON on stdout.")
def list_(published: bool, as_json: bool) -> None:
    """Show the models by name, and what each needs to run."""
    from harness.peers import INSTALL, installed, listing

    found = listing.systems() if published else listing.models()
    if as_json:
        print_json(found)
    else:
        print(listing.as_text(found), end="")
    if not installed() and not published:
        tell(f"anomalib is not installed, nothing here can run: {INSTALL}")


@peers.command(
    epilog="""\b
Examples:
  harness peers run --model patchcore,padim,stfpm --data parts --categories bolt \\
      --weights mobilenetv2_100.safetensors --out runs/peers
  harness peers run --model all --data parts --weights pretrained --backbone wide_resnet50_2 \\
      --out runs/peers --set cflow.steps=200 --set patchcore.coreset_sampling_ratio=0.02

\b
Run again, it fills the gaps: finished cells are kept, failed ones are tried again.
Exit code 3: some cells failed; each is a row, with its log in OUT/<model>/.../log.txt.
""",
)
@click.option("--model", "--models", "model", required=True, metavar="NAMES",
              help="Names separated by commas, or all; see `harness peers list`.")  # fmt: skip
@data_option
@categories_option
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN",
              help="Run folder: a folder for each model, category and seed.")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path), metavar="RESULTS",
              help="Results folder for the records; default RUN/results.")  # fmt: skip
@click.option("--weights", default="", metavar="FILE|pretrained",
              help="The backbone's weights; pretrained lets timm download.")  # fmt: skip
@click.option("--backbone", default="", metavar="NAME",
              help="timm's name; default: the weights file's own.")  # fmt: skip
@click.option("--layers", default="", metavar="NAMES",
              help="Feature layers, e.g. blocks.2,blocks.4; default: by each model's strides."
              )  # fmt: skip
@click.option("--textures", default="", metavar="DIR",
              help="Texture images (DTD) for models that paste them.")  # fmt: skip
@click.option("--resolution", cls=Option, former=("--size",),
              type=click.IntRange(32, 2048), default=256, show_default=True,
              metavar="PIXELS", help="Side of images and maps.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True,
              metavar="N", help="Optimiser steps of models that train.")  # fmt: skip
@click.option("--batch-size", cls=Option, former=("--batch",),
              type=click.IntRange(min=1), default=8, show_default=True,
              metavar="N", help="Images a step.")  # fmt: skip
@click.option("--train-images", type=click.IntRange(min=1), metavar="N",
              help="Take so many normal images, drawn by the seed; default: all.")  # fmt: skip
@click.option("--seeds", default="0", show_default=True, metavar="N,N,...",
              help="Everything random follows from one.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="MODEL.KEY=VALUE",
              help="A model's own argument, or steps, batch, train_images; repeat.")  # fmt: skip
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto",
              show_default=True, help="Where to train and score.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(min=0.01), metavar="M",
              help="Stop a cell that takes longer: it becomes a failed row.")  # fmt: skip
@json_option
def run(
    model: str,
    data: str,
    categories: str,
    out: Path,
    results: Path | None,
    weights: str,
    backbone: str,
    layers: str,
    textures: str,
    resolution: int,
    steps: int,
    batch_size: int,
    train_images: int | None,
    seeds: str,
    settings: tuple[str, ...],
    device: str,
    minutes: float | None,
    as_json: bool,
) -> None:
    """Train and score models, each in a process of its own, and measure them.

    The whole test set, last weights, exact PRO: the metrics and the protocol of every other row.
    """
    from harness.cli.reproduce import _seeds
    from harness.peers import require

    require()
    from harness.board import tables
    from harness.board.build import build
    from harness.peers import plan, rows
    from harness.peers import run as running
    from sia_gen.core.data.dataset import open_dataset

    options = plan.Options(
        models=model,
        out=out,
        size=resolution,
        weights=str(Path(weights).resolve()) if weights not in {"", plan.PRETRAINED} else weights,
        backbone=backbone,
        layers=tuple(part.strip() for part in layers.split(",") if part.strip()),
        textures=str(Path(textures).resolve()) if textures else "",
        steps=steps,
        batch=batch_size,
        train_images=train_images,
        seeds=_seeds(seeds) or (0,),
        device=device,
        settings=settings,
    )
    target = results or out / "results"
    if target.exists() and not target.is_dir():
        raise UserError(f"--results {target} is a file: give a folder")
    dataset = open_dataset(data)
    cells = plan.cells(options, dataset.origin or data, dataset.select(categories))
    found = []
    outcomes = running.run(
        cells,
        out,
        minutes=minutes,
        tell=tell,
        publish=lambda outcome: found.append(rows.record(outcome, target, lambda _: None)),
    )
    if as_json:
        print_json(found)
    else:
        print(tables.as_text(build([(target, record) for record in found])), end="")
    failed = [o for o in outcomes if o.state == running.FAILED]
    if failed:
        named = "; ".join(f"{o.cell.label}: {o.reason}" for o in failed[:5])
        raise IncompleteError(
            f"{len(failed)} of {len(outcomes)} cells failed ({named}); mend the cause and run the"
            " same command again: finished cells are kept"
        )
