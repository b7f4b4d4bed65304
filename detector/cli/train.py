"""`detector train`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detector.options import TrainOptions
from detector.training.asked import Asked
from detector.words import RUN
from sia_gen.core import options as opts
from sia_gen.core.commands import click_options, json_option, print_json, tell

if TYPE_CHECKING:
    from detector.training.tasks import Plan

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
@click_options(Asked)
@click.option("--textures", help="Folder of textures for source dtd.")
@click.option("--backbone", help="A timm model's name.")
@click.option("--weights", help="A file, pip, pretrained[:TAG] (a download), random or none.")
@click.option("--layers", help="Feature layers by timm's index, e.g. 1,2,3.")
@click.option("--channels", help="Kept channels of each layer, e.g. 24,32,64.")
@click_options(TrainOptions, layered=True)
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
    textures: str | None,
    settings: tuple[str, ...],
    dry_run: bool,
    warm_up: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train one detector for each category that is named, or one for all with --multi-class."""
    from detector.training.tasks import plan

    if warm_up and not dry_run:
        raise click.UsageError("--warm-up needs --dry-run: it measures and trains nothing")
    given = {
        name: value
        for name, value in values.items()
        if name not in opts.settings(Asked) and value not in (None, False)
    }
    if textures is not None:
        given["dtd.textures"] = textures
    asked = opts.taken(Asked, values, given=given | opts.parse_settings(settings))
    out = asked.out
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
