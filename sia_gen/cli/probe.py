"""`sia-gen probe`: which --batch-size a model pays with on this device."""

from __future__ import annotations

import json

import click

from sia_gen.generate.options import PRECISIONS


@click.command(
    "probe",
    short_help="Measure images/s by batch size, before a long run.",
    epilog="""\b
Example:
  sia-gen probe --model runs/model/model --largest 64
""",
)
@click.option(
    "--model",
    default="textures-64",
    show_default=True,
    metavar="MODEL",
    help="Name of a shipped model, or a folder written by `sia-gen train`.",
)
@click.option("--largest", type=click.IntRange(1), default=64, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def probe(
    model: str,
    largest: int,
    steps: int,
    threads: int,
    precision: str,
    device: str,
    as_json: bool,
) -> None:
    """Measure images/s for batches of 1, 2, 4, ... and name the --batch-size to use.

    The batch size is part of a run's result and never chosen silently.
    """
    import torch

    from sia_gen.diffusion.generator import load_generator
    from sia_gen.diffusion.model_folder import find_model
    from sia_gen.diffusion.probe import best
    from sia_gen.diffusion.probe import probe as measure

    torch.set_num_threads(threads)
    generator = load_generator(find_model(model), device=device, precision=precision, steps=steps)
    found = []
    for one in measure(generator, largest):
        found.append(one)
        peak = "" if one.peak is None else f"  {one.peak / 1e9:.2f} GB"
        click.echo(f"batch {one.batch:>4}  {one.rate:8.2f} images/s{peak}", err=as_json)
    chosen = best(found)
    if as_json:
        rows = [
            {"batch": p.batch, "images_per_second": p.rate, "peak_bytes": p.peak} for p in found
        ]
        click.echo(json.dumps({"best": chosen.batch, "probes": rows}, indent=2))
    else:
        click.echo(f"--batch-size {chosen.batch}  ({generator.device}, {generator.precision})")
