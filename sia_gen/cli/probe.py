"""`sia-gen probe`: which --batch-size a model pays with on this device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from sia_gen.core import shared_options
from sia_gen.core.commands import click_options, json_option, print_json
from sia_gen.core.options import Checked, like, option, taken
from sia_gen.generate.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(Checked):
    """What is measured, and where."""

    model: str = like(RunOptions, "model")
    largest: int = option(64, "Batch size to stop at.", low=1)
    steps: int = option(20, "Sampling steps.", low=1)
    threads: int = option(1, "CPU threads.", low=1)
    precision: str = like(RunOptions, "precision")
    device: str = shared_options.device()


@click.command(
    "probe",
    epilog="""\b
Example:
  sia-gen probe --model runs/model/model --largest 64
""",
)
@click_options(ProbeOptions)
@json_option
def probe(as_json: bool, **values: Any) -> None:
    """Measure images/s for batches of 1, 2, 4, ... and name the --batch-size to use.

    The batch size is part of a run's result and never chosen silently.
    """
    import torch

    from sia_gen.diffusion.generator import load_generator
    from sia_gen.diffusion.model_folder import find_model
    from sia_gen.diffusion.probe import best
    from sia_gen.diffusion.probe import probe as measure

    options = taken(ProbeOptions, values)
    torch.set_num_threads(options.threads)
    generator = load_generator(
        find_model(options.model),
        device=options.device,
        precision=options.precision,
        steps=options.steps,
    )
    found = []
    for one in measure(generator, options.largest):
        found.append(one)
        peak = "" if one.peak is None else f"  {one.peak / 1e9:.2f} GB"
        click.echo(f"batch {one.batch:>4}  {one.rate:8.2f} images/s{peak}", err=as_json)
    chosen = best(found)
    if as_json:
        rows = [
            {"batch": p.batch, "images_per_second": p.rate, "peak_bytes": p.peak} for p in found
        ]
        print_json({"best": chosen.batch, "probes": rows})
    else:
        click.echo(f"--batch-size {chosen.batch}  ({generator.device}, {generator.precision})")
