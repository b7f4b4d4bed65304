"""`detector explain`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import categories_option, checkpoint_argument, data_option, device_option
from sia_gen.core.commands import json_option, print_json, tell


@click.command(
    epilog="""\b
Example:
  detector explain runs/detector/textures/brick --out runs/why
""",
)
@checkpoint_argument
@data_option("the training's")
@categories_option("the checkpoint's", "The one to show, where the checkpoint is of several.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--source", default="cutpaste", show_default=True, help="What makes the pair.")
@click.option(
    "--columns",
    default=5,
    show_default=True,
    type=click.IntRange(1, 32),
    help="Best and worst channels of each layer.",
)
@device_option
@json_option
def explain(
    checkpoint: Path,
    data: str | None,
    categories: str | None,
    out: Path,
    source: str,
    columns: int,
    device: str,
    as_json: bool,
) -> None:
    """Draw which channels feature selection kept, and how well they show an anomaly."""
    from detector.checkpoint import read_facts
    from detector.inference.explain import explain as run_explanation
    from detector.run_folder import recorded_data
    from sia_gen.core.data.dataset import open_dataset

    name = categories or str(read_facts(checkpoint)["category"]).partition("/")[2]
    if data is None:
        folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
        data = recorded_data(folder)
        tell(f"--data {data}: the training's")
    facts = run_explanation(
        checkpoint,
        open_dataset(data).one(name),
        out,
        source=source,
        columns=columns,
        device_name=device,
    )
    if as_json:
        print_json(facts)
    else:
        tell(f"pictures: {', '.join(facts['pictures'])}")
