"""`detector explain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from detector.cli.options import checkpoint_argument
from sia_gen.core import shared_options
from sia_gen.core.commands import click_options, json_option, print_json, tell
from sia_gen.core.options import Checked, option, taken


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(Checked):
    """Of what the pictures are, and where they go."""

    data: str | None = shared_options.data(None, "the training's")
    categories: str | None = option(
        None,
        "The one to show, where the checkpoint is of several.",
        metavar="NAMES",
        shown="the checkpoint's",
        former=("category",),
    )
    out: Path = option(help="Output folder.")
    source: str = option("cutpaste", "What makes the pair.")
    columns: int = option(5, "Best and worst channels of each layer.", low=1, high=32)
    device: str = shared_options.device()


@click.command(
    epilog="""\b
Example:
  detector explain runs/detector/textures/brick --out runs/why
""",
)
@checkpoint_argument
@click_options(ExplainOptions)
@json_option
def explain(checkpoint: Path, as_json: bool, **values: Any) -> None:
    """Draw which channels feature selection kept, and how well they show an anomaly."""
    from detector.checkpoint import read_facts
    from detector.inference.explain import explain as run_explanation
    from detector.run_folder import recorded_data
    from sia_gen.core.data.dataset import open_dataset

    options: ExplainOptions = taken(ExplainOptions, values)
    data = options.data
    name = options.categories or str(read_facts(checkpoint)["category"]).partition("/")[2]
    if data is None:
        folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
        data = recorded_data(folder)
        tell(f"--data {data}: the training's")
    facts = run_explanation(
        checkpoint,
        open_dataset(data).one(name),
        options.out,
        source=options.source,
        columns=options.columns,
        device_name=options.device,
    )
    if as_json:
        print_json(facts)
    else:
        tell(f"pictures: {', '.join(facts['pictures'])}")
