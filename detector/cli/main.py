"""The command `detector`: train, score, predict, explain, export, info."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from sia_gen.core.commands import folders_only
from sia_gen.core.errors import UserError, run_command

EPILOG = """\b
Example:
  detector train --data textures --category all --shards runs/gen --out runs/det \\
      --recipe realnet-demo
  detector score --run runs/det --data textures --category all
"""
TRAIN_EPILOG = """\b
Examples:
  detector train --data textures --category brick --shards runs/gen --out runs/det \\
      --recipe realnet-demo
  detector train --data mvtec-ad/ --category all --shards runs/sia --out runs/realnet
  detector train --data line/ --category 'part-*' --source noise --out runs/noise \\
      --recipe mobile --weights mobilenetv2_100.safetensors --set rrs=off

\b
Recipes: realnet (the paper's), realnet-small, realnet-c, realnet-512, resnet34, efficientnet_b4,
  multi-class, mobile, realnet-demo, or a YAML file of one's own (docs/realnet.md).
Run the same command again to go on with a training that was stopped; a finished one is skipped.
"""
SCORE_EPILOG = """\b
Example:
  detector score --run runs/det --data textures --category all
"""
PREDICT_EPILOG = """\b
Example:
  detector predict photos/ --model runs/det/textures/brick --out runs/seen
"""
EXPLAIN_EPILOG = """\b
Example:
  detector explain runs/det/textures/brick --data textures --out runs/why
"""
EXPORT_EPILOG = """\b
Examples:
  detector export runs/det/textures/brick --out brick.onnx
  detector export runs/det/textures/brick --out brick.pt2 --format torch
"""
INFO_EPILOG = """\b
Example:
  detector info runs/det/textures/brick
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Trains anomaly detectors on normal images and synthetic anomalies, and applies them."""


@group.command(epilog=TRAIN_EPILOG)
@click.option(
    "--data",
    required=True,
    help="Folder, NAME=DIR, list or `textures` (docs/datasets.md).",
)
@click.option("--category", default="all", show_default=True, help="Names or globs, or all.")
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Black and white of files of more than 8 bits.  [measured]",
)
@click.option("--shards", help="Run of `sia-gen run`: a folder, or an address (copied first).")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--recipe", default="realnet", show_default=True, help="A recipe's name or file.")
@click.option("--source", help="A synthesis method, or a mixture: sdas:0.5,dtd:0.5.")
@click.option("--textures", help="Folder of textures for source dtd.")
@click.option("--backbone", help="A timm model's name.")
@click.option("--weights", help="A file, pretrained[:TAG] (timm's download), random or none.")
@click.option("--layers", help="Feature layers by timm's index, e.g. 1,2,3.")
@click.option("--channels", help="Kept channels of each layer, e.g. 24,32,64.")
@click.option("--resolution", type=int, help="Side of the images in pixels.")
@click.option("--batch", type=int, help="Images a step, half of them normal.")
@click.option("--steps", type=int, help="Optimiser steps.")
@click.option("--epochs", type=int, help="Passes over the normal images, instead of --steps.")
@click.option("--lr", type=float, help="Adam's learning rate.")
@click.option("--seed", type=int, help="Everything random follows from it.")
@click.option("--precision", help="auto, fp32, bf16 or fp16.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--protocol", help="Which step's weights: last, held-out or best-on-test.")
@click.option("--patience", type=int, help="Stop after so many looks without a better one.")
@click.option("--holdout", type=float, help="Share of normal images kept out for the threshold.")
@click.option("--multi-class", is_flag=True, help="One model for all categories together.")
@click.option("--allow-foreign-shards", is_flag=True, help="Take shards of other categories.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any recipe option.")
@click.option("--dry-run", is_flag=True, help="Print the resolved options and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON summary on stdout.")
def train(
    data: str,
    category: str,
    value_range: tuple[float, float] | None,
    shards: str | None,
    out: Path,
    recipe: str,
    device: str,
    multi_class: bool,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Trains one detector for each category that is named, or one for all with --multi-class."""
    import dataclasses

    from detector import device as devices
    from detector import models
    from detector.data.source import check_category, needs_shards
    from detector.data.task import single, together
    from detector.options import parse_settings, resolve
    from detector.training import run_folder as runfolder
    from detector.training import selection
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.plugins import load
    from sia_gen.core.recipes import read_recipe
    from sia_gen.core.store.mirror import local_folder
    from sia_gen.core.store.objects import locate
    from sia_gen.core.store.shards import find_shards

    asked = {k: v for k, v in given.items() if v is not None and v is not False}
    if "textures" in asked:
        asked["dtd.textures"] = asked.pop("textures")
    asked |= parse_settings(settings)
    name = str(asked.get("model", read_recipe(recipe, "detector").get("model", "realnet")))
    plugin = load(models, name)
    options = resolve(recipe, asked, plugin.Options)
    chosen = devices.choose(device)
    options = dataclasses.replace(
        options, precision=devices.choose_precision(options.precision, chosen)
    )
    categories = open_dataset(data, value_range).select(category)
    if (options.source == "none") == plugin.PAIRS:
        takes = "needs a source of anomalous pairs" if plugin.PAIRS else "takes no source but none"
        raise UserError(f"source {options.source}: model {name} {takes}; give another --source")
    if needs_shards(options.source) and shards is None:
        raise UserError(
            "source sdas needs --shards with a run folder of `sia-gen run` (or give --source noise)"
        )
    made = None if shards is None else local_folder(locate(shards))
    # All categories are checked before the first is trained: a mistake costs seconds, not hours.
    tasks = []
    for one in categories:
        tars: list[Path] = []
        if needs_shards(options.source) and made is not None:
            foreign = options.allow_foreign_shards
            named = made.is_file()
            tars = find_shards(made, None if foreign or named else one.key)
            check_category(tars, one.key, allow_foreign=foreign)
        tasks.append(single(one, tars))
    if multi_class:
        tasks = [together(tasks)]
    plans = []
    for task in tasks:
        selection.check(options, task)
        document = runfolder.describe(options, task)
        plans.append((task, runfolder.check_claim(runfolder.folder_of(out, task), document)))
    if dry_run:
        shown = {"categories": [c.key for c in categories], "options": dataclasses.asdict(options)}
        click.echo(json.dumps(shown, indent=2))
        return
    for one in categories:
        if note := one.range_note():
            print(note, file=sys.stderr)
    summary = []
    accelerator = None
    for task, state in plans:
        if state == "finished":
            from detector.checkpoint import read_facts

            facts = read_facts(runfolder.folder_of(out, task))
            print(f"{task.key}: trained before, nothing to do", file=sys.stderr)
        else:
            from detector.training.train import accelerator_for
            from detector.training.train import train as run_training

            accelerator = accelerator or accelerator_for(str(chosen), options.precision)
            facts = run_training(options, task, out, accelerator)
            if accelerator.is_main_process:
                print(
                    f"{task.key}: {facts['step']} steps in {facts['seconds']:.0f} s,"
                    f" {facts['pairs_per_second']:.1f} pairs/s",
                    file=sys.stderr,
                )
        summary.append(
            {
                "category": task.key,
                "folder": str(runfolder.folder_of(out, task)),
                "steps": facts["step"],
                "seconds": round(facts["seconds"], 1),
                "pairs_per_second": facts["pairs_per_second"],
                "checkpoint_sha256": facts["sha256"],
            }
        )
    if as_json and (accelerator is None or accelerator.is_main_process):
        click.echo(json.dumps(summary, indent=2))


@group.command(epilog=SCORE_EPILOG)
@click.option("--run", required=True, type=click.Path(path_type=Path), help="Run of `train`.")
@click.option(
    "--data",
    required=True,
    help="Folder, NAME=DIR, list or `textures` (docs/datasets.md).",
)
@click.option("--category", default="all", show_default=True, help="Names or globs, or all.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:N].")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the networks; a faster one is named in the protocol.",
)
@click.option("--force", is_flag=True, help="Score again what is scored already.")
@click.option("--json", "as_json", is_flag=True, help="Print the score folders as JSON on stdout.")
def score(
    run: Path,
    data: str,
    category: str,
    device: str,
    precision: str,
    force: bool,
    as_json: bool,
) -> None:
    """Writes the score maps of test images, for `harness evaluate`."""
    from sia_gen.core.data.dataset import open_dataset

    if not run.is_dir():
        raise UserError(f"run {run} does not exist: `detector train --out {run}` makes it")
    categories = open_dataset(data).select(category)
    from detector.inference.score import FOLDER, model_folder
    from detector.inference.score import score as run_scoring
    from detector.training.run_folder import folder_of

    for one in categories:
        model_folder(run, one)
    summary = []
    for one in categories:
        fresh = run_scoring(run, one, device, force=force, precision=precision)
        folder = folder_of(run, one) / FOLDER
        state = f"{len(one.test)} test images scored" if fresh else "scored before, nothing to do"
        print(f"{one.key}: {state}", file=sys.stderr)
        summary.append({"category": one.key, "scores": str(folder), "fresh": fresh})
    if as_json:
        click.echo(json.dumps(summary, indent=2))


@group.command(epilog=PREDICT_EPILOG)
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="RUN/<dataset>/<category>."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option(
    "--image-score",
    type=click.Choice(["max", "avgpool16_max"]),
    default="max",
    show_default=True,
    help="An image's score: the map's maximum, or that of its 16 x 16 window means.",
)
@click.option(
    "--false-alarms",
    type=float,
    default=0.05,
    show_default=True,
    help="Share of normal images that may be called anomalous.",
)
@click.option("--steps", is_flag=True, help="Draw the model's own steps too, where it shows any.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:N].")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
def predict(
    images: Path,
    model: Path,
    out: Path,
    image_score: str,
    false_alarms: float,
    steps: bool,
    device: str,
    as_json: bool,
) -> None:
    """Writes heat maps and decisions for an image, or a folder of images, without labels."""
    from detector.inference.predict import TABLE, PredictOptions
    from detector.inference.predict import predict as run_prediction

    options = PredictOptions(
        image_score=image_score, false_alarms=false_alarms, device=device, steps=steps
    )
    summary = run_prediction(images, model, out, options)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    print(
        f"{summary['images']} images, {summary['anomalous']} anomalous; threshold"
        f" {summary['threshold']:.4g} from {summary['threshold_from']}; table {out / TABLE},"
        f" pictures {out / 'overlays'}",
        file=sys.stderr,
    )


@group.command(epilog=EXPLAIN_EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="The dataset it was trained on.")
@click.option("--category", help="Where the checkpoint is of several categories.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--source", default="cutpaste", show_default=True, help="What makes the pair.")
@click.option(
    "--columns",
    default=5,
    show_default=True,
    type=click.IntRange(1, 32),
    help="Best and worst channels of each layer.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:N].")
@click.option("--json", "as_json", is_flag=True, help="Print losses per layer as JSON on stdout.")
def explain(
    checkpoint: Path,
    data: str,
    category: str | None,
    out: Path,
    source: str,
    columns: int,
    device: str,
    as_json: bool,
) -> None:
    """Draws which channels feature selection kept, and how well they show an anomaly."""
    from detector.checkpoint import read_facts
    from detector.inference.explain import explain as run_explanation
    from sia_gen.core.data.dataset import open_dataset

    name = category or str(read_facts(checkpoint)["category"]).partition("/")[2]
    one = open_dataset(data).one(name)
    facts = run_explanation(
        checkpoint, one, out, source=source, columns=columns, device_name=device
    )
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    print(f"pictures: {', '.join(facts['pictures'])}", file=sys.stderr)


@group.command(epilog=EXPORT_EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch"]),
    default="onnx",
    show_default=True,
    help="ONNX, or torch.export's file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the file's facts as JSON on stdout.")
def export(checkpoint: Path, out: Path, kind: str, as_json: bool) -> None:
    """Writes a checkpoint for other runtimes, once its maps there equal those here."""
    from detector.inference.export import export as run_export

    facts = run_export(checkpoint, out, kind)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    print(
        f"{out}: scores differ by up to {facts['largest_deviation']:.1e}; input {facts['input']}",
        file=sys.stderr,
    )


@group.command(epilog=INFO_EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print all recorded facts as JSON on stdout.")
def info(checkpoint: Path, as_json: bool) -> None:
    """Tells what a checkpoint is: recipe, backbone, data, training, threshold."""
    from detector.inference.info import describe
    from detector.inference.info import read as read_info

    facts = read_info(checkpoint)
    click.echo(json.dumps(facts, indent=2) if as_json else describe(facts))


def main() -> None:
    """Runs the command line."""
    for command in group.commands.values():
        folders_only(command)
    run_command(lambda: group(prog_name="detector"))


if __name__ == "__main__":
    main()
