"""`harness submit`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import data_option, json_option, print_json, tell
from sia_gen.core.commands import Option
from sia_gen.core.errors import UserError


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
@data_option
@click.option(
    "--categories",
    "category",
    cls=Option,
    former=("--category",),
    required=True,
    metavar="NAME",
    help="The one category of the maps.",
)
@click.option("--method", required=True, metavar="NAME", help="What the row is called.")
@click.option(
    "--source",
    default="none",
    show_default=True,
    metavar="NAME",
    help="What made its synthetic anomalies, if it used any.",
)
@click.option("--seed", type=click.IntRange(min=0), help="The training's seed.")
@click.option(
    "--protocol",
    multiple=True,
    metavar="KEY=VALUE",
    help="What a reader must know: backbone, checkpoint_rule, ...; repeat.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The score folder is written to RUN/<dataset>/<category>/scores.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="RESULTS",
    help="Also measure, and add the record to this results folder.",
)
@json_option
def submit(
    maps: Path,
    data: str,
    category: str,
    method: str,
    source: str,
    seed: int | None,
    protocol: tuple[str, ...],
    out: Path,
    results: Path | None,
    as_json: bool,
) -> None:
    """Take in score maps of any detector, checked against the test images, to be ranked."""
    from harness.measure import submit as room
    from sia_gen.core.data.dataset import open_dataset

    stated = []
    for text in protocol:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"--protocol {text!r}: expected KEY=VALUE, e.g. backbone=resnet18")
        if key in {"detector", "source", "seed", "run", "submitted", "resolution", "image_scores"}:
            raise UserError(f"--protocol {key}: this is measured or has an option of its own")
        stated.append((key, value))
    if not method.strip() or not source.strip():
        raise UserError("--method and --source need a name")
    options = room.Options(method=method, source=source, seed=seed, protocol=tuple(stated))
    folder = room.run(maps, open_dataset(data).one(category), out, options)
    tell(f"{folder}: maps match the test images")
    if results is None:
        if as_json:
            print_json({"scores": str(folder)})
        else:
            print(folder)
        return
    from harness.board import tables
    from harness.board.build import build
    from harness.measure import detection

    found = detection.run([folder], results, tell=tell)
    if as_json:
        print_json(found)
    else:
        print(tables.as_text(build([(results, record) for record in found])), end="")
