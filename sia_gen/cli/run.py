"""`sia-gen run` and `sia-gen plan`: options from the command line, and nothing else."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from sia_gen.generate.options import (
    ENCODE,
    EXECUTORS,
    PRECISIONS,
    SAMPLERS,
    ExecutionOptions,
    RunOptions,
)

Command = Callable[..., None]


def _options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


what = _options(
    click.option(
        "--out",
        default="runs/sia",
        show_default=True,
        metavar="DIR",
        help="Run folder or s3://BUCKET/PREFIX; new, or to be resumed.",
    ),
    click.option(
        "--per-category",
        default=10_000,
        show_default=True,
        type=int,
        metavar="N",
        help="Images for each category.",
    ),
    click.option(
        "--data",
        default="textures",
        show_default=True,
        metavar="DIR",
        help="A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md).",
    ),
    click.option(
        "--categories",
        default="all",
        show_default=True,
        metavar="NAMES",
        help="all, or names and globs separated by commas.",
    ),
    click.option(
        "--model",
        default="textures-64",
        show_default=True,
        metavar="MODEL",
        help="Name of a shipped model, or a folder written by `sia-gen train`.",
    ),
    click.option(
        "--s-range",
        nargs=2,
        type=float,
        default=(0.1, 0.2),
        show_default=True,
        metavar="LOW HIGH",
        help="Anomaly strength, uniform in this range; 0 0 gives normal images.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of the run."),
    click.option(
        "--shard-size",
        type=int,
        default=1000,
        show_default=True,
        help="Images in a shard, the unit of work; smaller ones share out better.",
    ),
    click.option(
        "--batch-size",
        type=int,
        default=16,
        show_default=True,
        help="Images computed together; part of the result's bits.",
    ),
    click.option(
        "--threads",
        type=int,
        default=1,
        show_default=True,
        help="CPU threads of each worker; they round differently, so part of the bits too.",
    ),
    click.option("--steps", type=int, default=20, show_default=True, help="Sampling steps."),
    click.option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        default="iddpm",
        show_default=True,
        help="iddpm: the ancestral reverse step; ddim: DDIM with perturbation.",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="auto",
        show_default=True,
        help="Precision of the network; auto takes what the device is fast in.",
    ),
    click.option(
        "--encode",
        type=click.Choice(ENCODE),
        default="png",
        show_default=True,
        help="png, webp: lossless; realnet: cut off and JPEG 75, as the authors' archives.",
    ),
    click.option(
        "--guidance",
        default="",
        metavar="DIR",
        help="Classifier folder of `sia-gen import`: steers images to their category.  [off]",
    ),
    click.option(
        "--guidance-scale",
        type=float,
        default=1.0,
        show_default=True,
        help="Weight of the classifier's gradient.",
    ),
    click.option(
        "--compile",
        is_flag=True,
        help="Compile the network (and record CUDA graphs): minutes before the first image.",
    ),
    click.option(
        "--force", is_flag=True, help="Generate from a model that has not passed its health check."
    ),
)

how = _options(
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        default="ray",
        show_default=True,
        help="ray: a pool of workers, here or on a cluster; local: this process.",
    ),
    click.option("--workers", type=int, help="Number of workers.  [default: as many as fit]"),
    click.option("--num-cpus", type=float, help="CPUs for each worker.  [default: --threads]"),
    click.option(
        "--num-gpus",
        type=float,
        help="GPUs for each worker, may be a fraction.  [default: 1 if there are any]",
    ),
    click.option("--address", metavar="HOST:PORT", help="A running Ray cluster; auto finds it."),
    click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda, for each worker."
    ),
    click.option(
        "--attempts",
        type=int,
        default=3,
        show_default=True,
        help="Workers that a shard may cost before it goes into quarantine.",
    ),
    click.option(
        "--deadline",
        type=float,
        default=1800.0,
        show_default=True,
        metavar="SECONDS",
        help="A worker without a new batch for so long is killed (Ray only).",
    ),
    click.option(
        "--wait",
        type=float,
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Start though no worker fits yet: how long an autoscaling cluster may take.",
    ),
    click.option(
        "--join", is_flag=True, help="Share the work with the drivers that are at it already."
    ),
)

estimates = _options(
    click.option(
        "--rate", type=float, metavar="N", help="Images a second of all workers, for the time."
    ),
    click.option(
        "--warm-up", is_flag=True, help="Load the model here and measure rate, size and memory."
    ),
)

as_json = click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")


def run_options(values: dict[str, Any]) -> RunOptions:
    """Returns the run's options from the command's parameters."""
    low, high = values["s_range"]
    names = {field.name for field in fields(RunOptions)} - {"s_low", "s_high"}
    return RunOptions(s_low=low, s_high=high, **{name: values[name] for name in names})


def execution_options(values: dict[str, Any]) -> ExecutionOptions:
    """Returns the executor's options from the command's parameters."""
    names = {field.name for field in fields(ExecutionOptions)} & values.keys()
    return ExecutionOptions(**{name: values[name] for name in names})


def _memory(figures: dict[str, Any]) -> str:
    from sia_gen.generate.run import readable_size

    known = figures["memory_per_worker"]
    if known is None:
        return "unknown; --warm-up measures it"
    gpu = f", {readable_size(known['gpu'])} of the GPU's" if known["gpu"] else ""
    return f"{readable_size(known['host'])} a worker{gpu}"


def _show_plan(values: dict[str, Any]) -> None:
    from sia_gen.core.errors import UserError
    from sia_gen.generate.run import describe_plan, prepare, readable_size
    from sia_gen.runs.progress import duration

    rate, workers = values.get("rate"), values.get("workers")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UserError(f"--rate {rate}: expected images a second, above 0")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: expected at least 1")
    figures = describe_plan(
        prepare(run_options(values)),
        rate=rate,
        workers=workers or 1,
        warm_up=bool(values.get("warm_up")),
        device=values.get("device", "auto"),
    )
    if values["as_json"]:
        print(json.dumps(figures, indent=2))
        return
    recipe = figures["recipe"]
    time = "unknown; --rate tells it, --warm-up measures it"
    if figures["seconds_estimated"] is not None:
        time = (
            f"{duration(figures['seconds_estimated'])} at {figures['images_per_second']:.3g}"
            f" images/s ({figures['rate_measured_on']}; {figures['workers']} workers)"
        )
    lines = [
        f"{figures['out']}: {'resumes a run' if figures['resumes'] else 'a new run'}",
        f"  categories {', '.join(recipe['categories'])}",
        f"  model      {figures['model']['name']} ({recipe['checkpoint_sha256'][:12]})",
        f"  strength   {recipe['s_low']:g} to {recipe['s_high']:g}, {recipe['sampler']},"
        f" {recipe['steps']} steps, {recipe['resolution']} x {recipe['resolution']} pixels",
        f"  images     {figures['images_to_do']} to make of {figures['images']}",
        f"  shards     {figures['shards_to_do']} to make of {figures['shards']}",
        f"  disk       about {readable_size(figures['bytes_to_do_estimated'])}, at most"
        f" {readable_size(figures['bytes_to_do_at_most'])} ({recipe['format']}; measured on"
        f" {figures['bytes_measured_on']})",
        f"  time       {time}",
        f"  memory     {_memory(figures)}",
    ]
    print("\n".join(lines))


@click.command(
    "run",
    short_help="Generate synthetic anomalies as shards; run again to resume.",
    epilog="""\b
Examples:
  sia-gen run --per-category 60 --out runs/first
  sia-gen run --data DIR --categories bottle,cable --s-range 0.1 0.2 \\
      --per-category 10000 --model runs/model --out runs/bottle-cable --num-gpus 1

\b
A shard is a WebDataset tar (<key>.png, <key>.json) with a record beside it, below
DIR/shards/<dataset>/<category>/. The same command again skips what is done.
""",
)
@what
@how
@click.option("--dry-run", is_flag=True, help="Show the plan and stop (`sia-gen plan`).")
@estimates
@as_json
def run(**values: Any) -> None:
    """Generate synthetic anomalies with SDAS, as shards; the same command again resumes."""
    if not values["dry_run"] and (values["rate"] is not None or values["warm_up"]):
        raise click.UsageError("--rate and --warm-up need --dry-run: they are of the plan")
    if values["dry_run"]:
        _show_plan(values)
        return
    from sia_gen.generate.run import StoppedRunError
    from sia_gen.generate.run import run as generate

    try:
        figures = generate(run_options(values), execution_options(values))
    except StoppedRunError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(128 + error.signal)
    if values["as_json"]:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{figures['images']} images in {figures['out']}", file=sys.stderr)


@click.command(
    "plan",
    short_help="Show what a run would make, and write nothing.",
    epilog="""\b
Example:
  sia-gen plan --per-category 10000 --out runs/first --rate 8.5
  sia-gen plan --per-category 10000 --out s3://bucket/sia --warm-up --workers 8
""",
)
@what
@click.option("--workers", type=int, help="Workers that share the measured time.  [default: 1]")
@click.option("--device", default="auto", show_default=True, help="Where to warm up.")
@estimates
@as_json
def plan(**values: Any) -> None:
    """Show what `sia-gen run` with the same options would make, and write nothing."""
    _show_plan(values)
