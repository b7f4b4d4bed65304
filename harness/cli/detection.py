"""`harness evaluate` and `harness baseline`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.cli.options import (
    DETECTOR,
    data_root,
    images_root,
    json_option,
    print_json,
    results,
    say_next,
    show,
    tell,
)
from sia_gen.core import shared_options
from sia_gen.core.commands import click_options
from sia_gen.core.options import Checked, option, taken


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Checked):
    """Where images and results lie, and what is kept."""

    data: str | None = images_root()
    examples: int = option(2, "Example pictures kept of each outcome.", low=0, high=50)
    out: Path = results()
    dry_run: bool = option(False, "List the score folders, and stop.")


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(Checked):
    """What the baseline scores, and where to."""

    data: str = shared_options.data()
    categories: str = shared_options.categories()
    value_range: tuple[float, float] | None = shared_options.value_range()
    resolution: int | None = option(
        None,
        "Side of the images; default: the training images' median, at most 256.",
        low=16,
        high=2048,
        former=("size",),
        metavar="PIXELS",
    )
    out: Path = option(
        Path("runs/baseline"),
        "Run folder; score folders are written to RUN/<dataset>/<category>/scores.",
        metavar="RUN",
    )


@click.command(
    epilog="""\b
Example:
  harness evaluate
  harness evaluate runs/realnet runs/baseline --out runs/results
  harness evaluate runs/realnet/textures/brick/scores --out runs/results --json
""",
)
@click.argument("scores", nargs=-1, type=click.Path(path_type=Path), metavar="[SCORES]...")
@click_options(EvaluateOptions)
@json_option
def evaluate(scores: tuple[Path, ...], as_json: bool, **values: Any) -> None:
    """Measure detection: image and pixel AUROC and AP, and PRO, of score folders.

    SCORES are score folders, or folders searched for them at any depth; default runs/detector.
    """
    options: EvaluateOptions = taken(EvaluateOptions, values)
    if not scores:
        scores = (DETECTOR,)
        tell(f"defaults: SCORES {DETECTOR}, --out {options.out}")
    from harness.measure import detection

    if options.dry_run:
        for folder in detection.find_score_folders(scores):
            print(folder)
        return
    root = data_root(options.data)
    found = detection.run(scores, options.out, data=root, each=options.examples, tell=tell)
    say_next(options.out)
    show(found, options.out, as_json)


@click.command(
    epilog="""\b
Example:
  harness baseline --data textures --categories all --out runs/baseline
  harness evaluate runs/baseline --out runs/results
""",
)
@click_options(BaselineOptions)
@json_option
def baseline(as_json: bool, **values: Any) -> None:
    """Score test images by plain colour statistics, the row that a detector must beat."""
    from harness.measure.baseline import run

    options: BaselineOptions = taken(BaselineOptions, values)
    folders = run(
        options.data,
        options.categories,
        options.out,
        size=options.resolution,
        value_range=options.value_range,
        tell=tell,
    )
    if as_json:
        print_json([str(folder) for folder in folders])
    else:
        for folder in folders:
            print(folder)
    tell(f"next: harness evaluate {options.out}")
