"""`harness evaluate` and `harness baseline`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import (
    DETECTOR,
    RESULTS,
    categories_option,
    data_option,
    data_root,
    json_option,
    print_json,
    range_option,
    results_option,
    tell,
)
from sia_gen.core.commands import Option


@click.command(
    epilog="""\b
Example:
  harness evaluate
  harness evaluate runs/realnet runs/baseline --out runs/results
  harness evaluate runs/realnet/textures/brick/scores --out runs/results --json
""",
)
@click.argument("scores", nargs=-1, type=click.Path(path_type=Path), metavar="[SCORES]...")
@click.option(
    "--data",
    metavar="DATA",
    help="Where test images lie that score files name by relative path: a dataset or a folder.",
)
@click.option(
    "--examples",
    type=click.IntRange(0, 50),
    default=2,
    show_default=True,
    metavar="N",
    help="Example pictures kept of each outcome.",
)
@results_option
@click.option("--dry-run", is_flag=True, help="List the score folders, and stop.")
@json_option
def evaluate(
    scores: tuple[Path, ...],
    data: str | None,
    examples: int,
    out: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure detection: image and pixel AUROC and AP, and PRO, of score folders.

    SCORES are score folders, or folders searched for them at any depth; default runs/detector.
    """
    if not scores:
        scores = (DETECTOR,)
        tell(f"defaults: SCORES {DETECTOR}, --out {out}")
    from harness.measure import detection

    if dry_run:
        for folder in detection.find_score_folders(scores):
            print(folder)
        return
    from harness.board import tables
    from harness.board.build import build

    found = detection.run(scores, out, data=data_root(data), each=examples, tell=tell)
    tell(f"next: harness leaderboard{'' if out == RESULTS else f' {out}'}")
    if as_json:
        print_json(found)
    else:
        print(tables.as_text(build([(out, record) for record in found])), end="")


@click.command(
    epilog="""\b
Example:
  harness baseline --data textures --categories all --out runs/baseline
  harness evaluate runs/baseline --out runs/results
""",
)
@data_option
@categories_option
@range_option("measured")
@click.option(
    "--resolution",
    cls=Option,
    former=("--size",),
    type=click.IntRange(16, 2048),
    metavar="PIXELS",
    help="Side of the images; default: the training images' median, at most 256.",
)
@click.option(
    "--out",
    default=Path("runs/baseline"),
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder; score folders are written to RUN/<dataset>/<category>/scores.",
)
@click.option("--json", "as_json", is_flag=True, help="The score folders as JSON on stdout.")
def baseline(
    data: str,
    categories: str,
    value_range: tuple[float, float] | None,
    resolution: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Score test images by plain colour statistics, the row that a detector must beat."""
    from harness.measure import baseline as room

    folders = room.run(data, categories, out, size=resolution, value_range=value_range, tell=tell)
    if as_json:
        print_json([str(folder) for folder in folders])
    else:
        for folder in folders:
            print(folder)
    tell(f"next: harness evaluate {out}")
