"""`harness compare`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import data_root, print_json, tell


@click.command(
    epilog="""\b
Examples:
  harness compare runs/realnet runs/baseline
  harness compare runs/realnet runs/baseline --html compare.html --json

\b
A and B are score folders, run folders that hold one score folder a category, or detection records
(RESULTS/records/detection-....json). Their test images must be the same.
""",
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--image-score",
    default="max",
    show_default=True,
    type=click.Choice(("max", "avgpool16_max", "own")),
    help="How a map scores an image.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write one self-contained page with the images that flip.",
)
@click.option(
    "--data",
    metavar="DATA",
    help="Where test images lie that score files name by relative path: a dataset or a folder.",
)
@click.option(
    "--examples",
    type=click.IntRange(0, 100),
    default=8,
    show_default=True,
    metavar="N",
    help="Pictures a category and direction.",
)
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON on stdout.")
def compare(
    a: Path,
    b: Path,
    image_score: str,
    html: Path | None,
    data: str | None,
    examples: int,
    as_json: bool,
) -> None:
    """Compare two detectors on the same images: paired intervals, and the images that flip."""
    from harness.compare import page as compare_page
    from harness.compare import paired as room

    found, notes = room.run(a, b, image_score)
    root = data_root(data)
    if html is not None:
        compare_page.write(html, found, notes, [root] if root else [], examples)
        tell(f"page: {html}")
    if as_json:
        print_json(room.as_document(found, notes))
    else:
        print(compare_page.as_text(found, notes), end="")
