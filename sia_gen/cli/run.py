"""`sia-gen run` and `sia-gen plan`: options from the command line, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from sia_gen.core.commands import click_options, given, json_option, print_json, tell
from sia_gen.core.errors import UserError
from sia_gen.core.options import taken
from sia_gen.generate.options import ExecutionOptions, RunOptions

_s_range = click.option(
    "--s-range",
    nargs=2,
    type=float,
    default=(0.1, 0.2),
    show_default=True,
    metavar="LOW HIGH",
    help="Anomaly strength, uniform in this range; 0 0 gives normal images.",
)
_above_0 = click.FloatRange(0, min_open=True)

# Where no executor is named, the kind of content decides.
how = click_options(ExecutionOptions, executor={"default": None})


def what(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of a run of images."""
    decorated: Callable[..., None] = click_options(RunOptions)(_s_range(command))
    return decorated


def estimates(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of the plan's estimates."""
    rate = click.option(
        "--rate", type=_above_0, metavar="N", help="Images a second of all workers, for the time."
    )
    warm_up = click.option(
        "--warm-up", is_flag=True, help="Load the model here and measure rate, size and memory."
    )
    return rate(warm_up(command))


def run_options(values: dict[str, Any]) -> RunOptions:
    """Returns the run's options from the command's parameters."""
    low, high = values["s_range"]
    options: RunOptions = taken(RunOptions, values, s_low=low, s_high=high)
    return options


def execution_options(values: dict[str, Any], *, heavy: bool = True) -> ExecutionOptions:
    """Returns the executor's options from the command's parameters.

    Where none is named, what is not `heavy` is made in this process, unless Ray is asked for.
    """
    asked = any(values.get(name) is not None for name in ("num_cpus", "num_gpus", "address"))
    ray = heavy or asked or values.get("workers") not in {None, 1}
    executor = values.get("executor") or ("ray" if ray else "local")
    options: ExecutionOptions = taken(ExecutionOptions, {**values, "executor": executor})
    return options


def _memory(figures: dict[str, Any]) -> str:
    from sia_gen.runs.progress import readable_size

    known = figures["memory_per_worker"]
    if known is None:
        return "unknown; --warm-up measures it"
    gpu = f", {readable_size(known['gpu'])} of the GPU's" if known["gpu"] else ""
    return f"{readable_size(known['host'])} a worker{gpu}"


def _workers(figures: dict[str, Any]) -> str:
    workers, at_once = figures["workers"], figures["workers_at_once"]
    shared = f" that share {at_once} workers' cores" if at_once < workers else ""
    return f"{workers} workers{shared}"


def _show_plan(values: dict[str, Any]) -> None:
    from sia_gen.core.progress import duration
    from sia_gen.generate.contents.images import prepare
    from sia_gen.generate.estimate import describe_plan
    from sia_gen.runs.progress import readable_size

    rate = values.get("rate")
    if rate is not None and not math.isfinite(rate):  # a range of click's lets NaN pass
        raise UserError(f"--rate {rate}: expected images a second, above 0")
    figures = describe_plan(
        prepare(run_options(values)),
        rate=rate,
        workers=values.get("workers") or 1,
        warm_up=bool(values.get("warm_up")),
        device=values.get("device", "auto"),
    )
    if values["as_json"]:
        print_json(figures)
        return
    recipe = figures["recipe"]
    time = "unknown; --rate tells it, --warm-up measures it"
    if figures["seconds_estimated"] is not None:
        time = (
            f"{duration(figures['seconds_estimated'])} at {figures['images_per_second']:.3g}"
            f" images/s ({figures['rate_measured_on']}; {_workers(figures)})"
        )
        if figures["seconds_starting"]:
            time += f", {duration(figures['seconds_starting'])} of it to start"
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
@json_option
def run(**values: Any) -> None:
    """Generate synthetic anomalies with SDAS, as shards; the same command again resumes."""
    if not values["dry_run"] and (values["rate"] is not None or values["warm_up"]):
        raise click.UsageError("--rate and --warm-up need --dry-run: they are of the plan")
    if values["dry_run"]:
        _show_plan(values)
        return
    from sia_gen.generate.contents.images import prepare
    from sia_gen.generate.run import run as make

    # Both are checked before any data is read.
    options, execution = run_options(values), execution_options(values)
    asked = given(values)
    unsaid = [f"--{name} {values[name]}" for name in ("data", "model", "out") if name not in asked]
    if unsaid:
        tell(f"defaults: {', '.join(unsaid)}")
    figures = make(prepare(options), execution)
    if values["as_json"]:
        print_json(figures)
    else:
        tell(f"{figures['images']} images in {figures['out']}")
    tell(f"next: detector train --shards {options.out}")


@click.command(
    "plan",
    epilog="""\b
Example:
  sia-gen plan --per-category 10000 --out runs/first --rate 8.5
  sia-gen plan --per-category 10000 --out s3://bucket/sia --warm-up --workers 8
""",
)
@what
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Workers that share the measured time.  [default: 1]",
)
@click.option("--device", default="auto", show_default=True, help="Where to warm up.")
@estimates
@json_option
def plan(**values: Any) -> None:
    """Show what `sia-gen run` with the same options would make, and write nothing."""
    _show_plan(values)
