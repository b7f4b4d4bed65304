"""`detector train`: options from the command line, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detector.cli.options import RUN, categories_option, data_option, device_option
from detector.options import TrainOptions
from sia_gen.core.commands import click_options, json_option, print_json, tell

if TYPE_CHECKING:
    from detector.training.tasks import Asked, Plan

EPILOG = """\b
Examples:
  detector train --shards runs/sia
  detector train --data mvtec-ad/ --shards runs/sia --recipe realnet --out runs/realnet
  detector train --data line/ --categories 'part-*' --source noise --out runs/noise \\
      --recipe mobile --weights mobilenetv2_100.safetensors --set rrs=off

\b
Recipes: realnet (the paper's), realnet-small, realnet-c, realnet-512, resnet34, efficientnet_b4,
  multi-class, mobile, realnet-lite, realnet-demo, or a YAML file of one's own (docs/realnet.md).
Run the same command again to go on with a training that was stopped; a finished one is skipped.
"""


@click.command(epilog=EPILOG)
@data_option("what the shards were made from, else textures")
@categories_option("those of the shards' run, else all")
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Black and white of files of more than 8 bits.  [default: measured]",
)
@click.option("--shards", help="Run of `sia-gen run`: a folder, or an address (copied first).")
@click.option(
    "--out",
    default=RUN,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Run folder.",
)
@click.option("--recipe", help="A recipe's name or file.  [default: realnet-demo]")
@click.option("--textures", help="Folder of textures for source dtd.")
@click.option("--backbone", help="A timm model's name.")
@click.option("--weights", help="A file, pip, pretrained[:TAG] (a download), random or none.")
@click.option("--layers", help="Feature layers by timm's index, e.g. 1,2,3.")
@click.option("--channels", help="Kept channels of each layer, e.g. 24,32,64.")
@click_options(TrainOptions, layered=True)
@device_option
@click.option("--multi-class", is_flag=True, help="One model for all categories together.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any recipe option.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what is missing, or what would be trained and how long it takes, and stop.",
)
@click.option(
    "--warm-up", is_flag=True, help="With --dry-run: measure time and memory on a few steps."
)
@json_option
def train(
    data: str | None,
    categories: str | None,
    value_range: tuple[float, float] | None,
    shards: str | None,
    out: Path,
    recipe: str | None,
    textures: str | None,
    device: str,
    multi_class: bool,
    settings: tuple[str, ...],
    dry_run: bool,
    warm_up: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train one detector for each category that is named, or one for all with --multi-class."""
    from detector.training.tasks import Asked, plan
    from sia_gen.core.options import parse_settings

    if warm_up and not dry_run:
        raise click.UsageError("--warm-up needs --dry-run: it measures and trains nothing")
    options = {name: value for name, value in given.items() if value not in (None, False)}
    if textures is not None:
        options["dtd.textures"] = textures
    asked = Asked(
        data=data,
        categories=categories,
        value_range=value_range,
        shards=shards,
        out=out,
        recipe=recipe,
        device=device,
        multi_class=multi_class,
        given=options | parse_settings(settings),
    )
    if dry_run:
        _dry_run(asked, measure=warm_up)
        return
    planned = plan(asked)
    _tell_defaults(planned, out)
    for note in (c.range_note() for job in planned.jobs for c in job.task.categories):
        if note:
            tell(note)
    from detector.training.command import run
    from detector.training.loop import StoppedTrainingError

    try:
        summary = run(planned, out, tell)
    except StoppedTrainingError as stopped:
        tell(str(stopped))
        sys.exit(128 + stopped.signal)
    if summary is None:
        return
    first = planned.jobs[0].task
    if any(category.test for job in planned.jobs for category in job.task.categories):
        tell(f"next: detector score{'' if out == RUN else f' {out}'}")
    else:  # nothing to score: the answer is for new photographs
        tell(f"next: detector predict PHOTOGRAPHS --model {out / first.key} --out runs/answers")
    if as_json:
        print_json(summary)


def _tell_defaults(planned: Plan, out: Path) -> None:
    told = planned.defaults | ({"--out": str(out)} if out == RUN else {})
    if told and os.environ.get("RANK", "0") == "0":  # of several processes only the first speaks
        tell("defaults: " + ", ".join(f"{flag} {value}" for flag, value in told.items()))


def _dry_run(asked: Asked, *, measure: bool) -> None:
    """Prints what would be trained as JSON; UserError with all that is missing, before torch."""
    from detector.training.needs import downloads, missing
    from detector.training.tasks import choose, plan
    from sia_gen.core.errors import UserError

    chosen = choose(asked)
    lacking = missing(asked.given, chosen.recipe, asked.shards)
    if lacking:
        raise UserError("missing: " + "; ".join(lacking))
    fetched = downloads(asked.given, chosen.recipe)
    os.environ["HF_HUB_OFFLINE"] = "1"  # a dry run waits for no hub
    planned = plan(asked)
    from detector.training import estimate

    pace = estimate.from_earlier(asked.out, planned.options)
    if pace is None and measure:
        pace = estimate.warm_up(planned)
    shown = {
        "categories": [c.key for job in planned.jobs for c in job.task.categories],
        "defaults": planned.defaults,
        "options": dataclasses.asdict(planned.options),
        "device": planned.device,
        "downloads": fetched,
        "trainings": [estimate.describe(job, planned, asked.out, pace) for job in planned.jobs],
        "memory_mib_estimated": None if pace is None else pace.memory_mib,
        "estimated_from": "nothing yet: --warm-up measures" if pace is None else pace.measured_on,
    }
    click.echo(json.dumps(shown, indent=2))
