"""`detector predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from detector.cli.options import Checkpoint
from detector.inference.options import PredictOptions
from sia_gen.core.commands import click_options, json_option, print_json, tell


@click.command(
    epilog="""\b
Examples:
  detector predict photos/ --model runs/detector/textures/brick --out runs/seen
  detector predict photos/ --model runs/detector/parts/bolt --out runs/seen \\
      --no-overlays --masks --boxes --maps png16 --least-area 20
  detector predict incoming/ --model runs/detector/parts/bolt --out runs/seen --watch 2

\b
The same command again does what is missing. docs/predict.md describes the files.
""",
)
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--model",
    required=True,
    type=Checkpoint(),
    help="RUN/<dataset>/<category>, or hf://OWNER/NAME.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click_options(PredictOptions)
@json_option
def predict(images: Path, model: Path, out: Path, as_json: bool, **values: Any) -> None:
    """Write a table, heat maps, masks and boxes for images without labels."""
    from detector.inference.predict import TABLE, watch
    from detector.inference.predict import predict as run_prediction
    from sia_gen.core.signals import StopFlag

    options = PredictOptions(**values)
    if options.watch:
        stop = StopFlag()
        stop.install()
        try:
            summary = watch(images, model, out, options, stop=stop.is_set)
        finally:
            stop.restore()
    else:
        summary = run_prediction(images, model, out, options)
    if as_json:
        print_json(summary)
        return
    tell(
        f"{summary['images']} images, {summary['anomalous']} anomalous; threshold"
        f" {summary['threshold']:.4g} from {summary['threshold_from']}; table {out / TABLE}"
        + (f", pictures {out / 'overlays'}" if options.overlays else "")
    )
