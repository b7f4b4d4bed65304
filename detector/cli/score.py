"""`detector score`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from detector.words import RUN
from sia_gen.core import shared_options
from sia_gen.core.commands import click_options, json_option, print_json, tell
from sia_gen.core.options import Checked, option, taken


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Checked):
    """Which test images are scored, and how."""

    data: str | None = shared_options.data(None, "the training's")
    categories: str | None = shared_options.categories(None, "the run's; all where --data is given")
    device: str = shared_options.device()
    precision: str = option(
        "fp32",
        "Of the networks; a faster one is named in the protocol.",
        choices=("fp32", "bf16", "fp16"),
    )
    step: int | None = option(None, "A step that training kept (`train --keep-every`).")
    full_size: bool = option(False, "Maps at each image's own size, for any detector.")
    force: bool = option(False, "Score again what is scored already.")
    dry_run: bool = option(False, "Say which categories would be scored, and stop.")


@click.command(
    epilog="""\b
Examples:
  detector score
  detector score runs/det --data textures --categories all
""",
)
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[RUN]")
@click.option("--run", "former", hidden=True, type=click.Path(path_type=Path))
@click_options(ScoreOptions)
@json_option
def score(folder: Path | None, former: Path | None, as_json: bool, **values: Any) -> None:
    """Write the score maps of test images, for `harness evaluate`.

    RUN is a run of `detector train`; default runs/detector.
    """
    if folder and former:
        raise click.UsageError("RUN is given twice, once as --run")
    from detector.run_folder import folder_of, trained_on
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.errors import UserError

    options: ScoreOptions = taken(ScoreOptions, values)
    data, categories, step = options.data, options.categories, options.step
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
    if options.dry_run:
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
            run,
            one,
            options.device,
            force=options.force,
            precision=options.precision,
            step=step,
            full_size=options.full_size,
        )
        folder = (of_step or folder_of(run, one)) / FOLDER
        state = f"{len(one.test)} test images scored" if fresh else "scored before, nothing to do"
        tell(f"{one.key}: {state}")
        summary.append({"category": one.key, "scores": str(folder), "fresh": fresh})
    tell(f"next: harness evaluate {run}")
    if as_json:
        print_json(summary)
