"""`harness submit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.cli.options import json_option, print_json, show, tell
from sia_gen.core import shared_options
from sia_gen.core.commands import click_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option, taken

MEASURED = {"detector", "source", "seed", "run", "submitted", "resolution", "image_scores"}


@dataclass(frozen=True, kw_only=True)
class SubmitOptions(Checked):
    """Whose maps they are, of which images, and where they go."""

    data: str = shared_options.data()
    categories: str = option(
        help="The one category of the maps.", metavar="NAME", former=("category",)
    )
    method: str = option(help="What the row is called.", metavar="NAME")
    source: str = option(
        "none", "What made its synthetic anomalies, if it used any.", metavar="NAME"
    )
    seed: int | None = option(None, "The training's seed.", low=0)
    protocol: tuple[str, ...] = option(
        (),
        "What a reader must know: backbone, checkpoint_rule, ...; repeat.",
        metavar="KEY=VALUE",
        repeat=True,
    )
    out: Path = option(
        help="The score folder is written to RUN/<dataset>/<category>/scores.", metavar="RUN"
    )
    results: Path | None = option(
        None, "Also measure, and add the record to this results folder.", metavar="RESULTS"
    )

    def __post_init__(self) -> None:
        """Refuses rows without a name."""
        super().__post_init__()
        if not self.method.strip() or not self.source.strip():
            raise UserError("--method and --source need a name")

    def stated(self) -> tuple[tuple[str, str], ...]:
        """Returns --protocol as pairs; UserError for what has no value or is measured."""
        found = []
        for text in self.protocol:
            key, equals, value = text.partition("=")
            if not equals or not key:
                raise UserError(f"--protocol {text!r}: expected KEY=VALUE, e.g. backbone=resnet18")
            if key in MEASURED:
                raise UserError(f"--protocol {key}: this is measured or has an option of its own")
            found.append((key, value))
        return tuple(found)


@click.command(
    epilog="""\b
Examples:
  harness submit maps/brick --data textures --categories brick --method patchcore \\
      --out runs/patchcore --results runs/results
  harness submit predictions.pt --data parts --categories bolt --method efficientad \\
      --protocol backbone=pdn-s --protocol checkpoint_rule=last --out runs/efficientad

\b
MAPS: a folder of <defect>/<stem>.npy|.npz|.png|.tif named after the test images, or one .npz or .pt
file with image_path, anomaly_map and, if wanted, pred_score (anomalib's names). See docs/submit.md.
""",
)
@click.argument("maps", type=click.Path(path_type=Path), metavar="MAPS")
@click_options(SubmitOptions)
@json_option
def submit(maps: Path, as_json: bool, **values: Any) -> None:
    """Take in score maps of any detector, checked against the test images, to be ranked."""
    from harness.measure import submit as room
    from sia_gen.core.data.dataset import open_dataset

    given: SubmitOptions = taken(SubmitOptions, values)
    options = room.Options(
        method=given.method, source=given.source, seed=given.seed, protocol=given.stated()
    )
    folder = room.run(maps, open_dataset(given.data).one(given.categories), given.out, options)
    tell(f"{folder}: maps match the test images")
    if given.results is not None:
        from harness.measure import detection

        show(detection.run([folder], given.results, tell=tell), given.results, as_json)
    elif as_json:
        print_json({"scores": str(folder)})
    else:
        print(folder)
