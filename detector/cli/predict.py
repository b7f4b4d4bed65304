"""`detector predict`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import device_option
from sia_gen.core.commands import json_option, print_json, tell


@click.command(
    epilog="""\b
Example:
  detector predict photos/ --model runs/detector/textures/brick --out runs/seen
""",
)
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="RUN/<dataset>/<category>."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option(
    "--image-score",
    type=click.Choice(["max", "avgpool16_max"]),
    default="max",
    show_default=True,
    help="An image's score: the map's maximum, or that of its 16 x 16 window means.",
)
@click.option(
    "--false-alarms",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Share of normal images that may be called anomalous.",
)
@click.option("--steps", is_flag=True, help="Draw the model's own steps too, where it shows any.")
@device_option
@json_option
def predict(
    images: Path,
    model: Path,
    out: Path,
    image_score: str,
    false_alarms: float,
    steps: bool,
    device: str,
    as_json: bool,
) -> None:
    """Write heat maps and decisions for an image, or a folder of images, without labels."""
    from detector.inference.predict import TABLE, PredictOptions
    from detector.inference.predict import predict as run_prediction

    options = PredictOptions(
        image_score=image_score, false_alarms=false_alarms, device=device, steps=steps
    )
    summary = run_prediction(images, model, out, options)
    if as_json:
        print_json(summary)
        return
    tell(
        f"{summary['images']} images, {summary['anomalous']} anomalous; threshold"
        f" {summary['threshold']:.4g} from {summary['threshold_from']}; table {out / TABLE},"
        f" pictures {out / 'overlays'}"
    )
