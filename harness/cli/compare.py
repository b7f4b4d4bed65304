"""`harness compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.cli.options import data_root, images_root, json_option, print_json, tell
from sia_gen.core.commands import click_options
from sia_gen.core.options import Checked, option, taken


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Checked):
    """How two detectors are compared, and what the page shows."""

    image_score: str = option(
        "max", "How a map scores an image.", choices=("max", "avgpool16_max", "own")
    )
    html: Path | None = option(
        None, "Also write one self-contained page with the images that flip.", metavar="FILE"
    )
    data: str | None = images_root()
    examples: int = option(8, "Pictures a category and direction.", low=0, high=100)


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
@click_options(CompareOptions)
@json_option
def compare(a: Path, b: Path, as_json: bool, **values: Any) -> None:
    """Compare two detectors on the same images: paired intervals, and the images that flip."""
    from harness.compare import page, paired

    options: CompareOptions = taken(CompareOptions, values)
    found, notes = paired.run(a, b, options.image_score)
    root = data_root(options.data)
    if options.html is not None:
        page.write(options.html, found, notes, [root] if root else [], options.examples)
        tell(f"page: {options.html}")
    if as_json:
        print_json(paired.as_document(found, notes))
    else:
        print(page.as_text(found, notes), end="")
