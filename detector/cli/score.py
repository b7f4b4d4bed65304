"""`detector score`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import RUN, categories_option, data_option, device_option
from sia_gen.core.commands import json_option, print_json, tell


@click.command(
    epilog="""\b
Examples:
  detector score
  detector score runs/det --data textures --categories all
""",
)
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[RUN]")
@click.option("--run", "former", hidden=True, type=click.Path(path_type=Path))
@data_option("the training's")
@categories_option("the run's; all where --data is given")
@device_option
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the networks; a faster one is named in the protocol.",
)
@click.option("--step", type=int, help="A step that training kept (`train --keep-every`).")
@click.option("--full-size", is_flag=True, help="Maps at each image's own size, for any detector.")
@click.option("--force", is_flag=True, help="Score again what is scored already.")
@click.option("--dry-run", is_flag=True, help="Say which categories would be scored, and stop.")
@json_option
def score(
    folder: Path | None,
    former: Path | None,
    data: str | None,
    categories: str | None,
    device: str,
    precision: str,
    step: int | None,
    full_size: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the score maps of test images, for `harness evaluate`.

    RUN is a run of `detector train`; default runs/detector.
    """
    if folder and former:
        raise click.UsageError("RUN is given twice, once as --run")
    from detector.run_folder import folder_of, trained_on
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.errors import UserError

    run = folder or former or RUN
    if run == RUN:
        tell(f"defaults: RUN {run}")
    if not run.is_dir():
        raise UserError(f"run {run} does not exist: `detector train --out {run}` makes it")
    if data is None:
        data, keys = trained_on(run)
        categories = categories or ",".join(keys)
        tell(f"defaults: --data {data} (as {run} says), --categories {categories}")
    chosen = open_dataset(data).select(categories or "all")
    if dry_run:
        for one in chosen:
            print(f"{one.key}: {len(one.test)} test images")
        return
    from detector.inference.score import FOLDER, kept_folder, model_folder
    from detector.inference.score import score as run_scoring

    sources = [model_folder(run, one) for one in chosen]
    kept = [None if step is None else kept_folder(source, step) for source in sources]
    summary = []
    for one, of_step in zip(chosen, kept, strict=True):
        fresh = run_scoring(
            run, one, device, force=force, precision=precision, step=step, full_size=full_size
        )
        folder = (of_step or folder_of(run, one)) / FOLDER
        state = f"{len(one.test)} test images scored" if fresh else "scored before, nothing to do"
        tell(f"{one.key}: {state}")
        summary.append({"category": one.key, "scores": str(folder), "fresh": fresh})
    tell(f"next: harness evaluate {run}")
    if as_json:
        print_json(summary)
