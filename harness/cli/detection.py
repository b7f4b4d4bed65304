"""`harness evaluate` and `harness baseline`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import (
    SETTINGS,
    category_option,
    data_option,
    json_option,
    print_json,
    results_option,
    tell,
)


@click.command(
    context_settings=SETTINGS,
    epilog="""\b
Example:
  harness evaluate runs/realnet runs/baseline --out runs/results
  harness evaluate runs/realnet/textures/brick/scores --out runs/results --json
""",
)
@click.argument(
    "scores", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SCORES..."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where test images lie that score files name by relative path.",
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
@json_option
def evaluate(
    scores: tuple[Path, ...], data: Path | None, examples: int, out: Path, as_json: bool
) -> None:
    """Measure detection: image and pixel AUROC and AP, and PRO, of score folders.

    SCORES are score folders, or folders searched for them at any depth.
    """
    from harness.board import tables
    from harness.board.build import build
    from harness.measure import detection

    found = detection.run(scores, out, data=data, each=examples, tell=tell)
    if as_json:
        print_json(found)
    else:
        print(tables.as_text(build([(out, record) for record in found])), end="")


@click.command(
    context_settings=SETTINGS,
    epilog="""\b
Example:
  harness baseline --data textures --category all --out runs/baseline
  harness evaluate runs/baseline --out runs/results
""",
)
@data_option
@category_option
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Black and white of files of more than 8 bits.  [measured]",
)
@click.option(
    "--size",
    type=click.IntRange(16, 2048),
    metavar="PIXELS",
    help="Side of the images; default: the training images' median, at most 256.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder; score folders are written to RUN/<dataset>/<category>/scores.",
)
@click.option("--json", "as_json", is_flag=True, help="The score folders as JSON on stdout.")
def baseline(
    data: str,
    category: str,
    value_range: tuple[float, float] | None,
    size: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Score test images by plain colour statistics, the row that a detector must beat."""
    from harness.measure import baseline as room

    folders = room.run(data, category, out, size=size, value_range=value_range, tell=tell)
    if as_json:
        print_json([str(folder) for folder in folders])
    else:
        for folder in folders:
            print(folder)
