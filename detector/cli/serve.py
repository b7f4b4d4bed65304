"""`detector serve`: options from the command line, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import click

from detector.cli.options import checkpoint_argument, device_option
from detector.inference.options import PredictOptions
from sia_gen.core.commands import click_options, tell

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "DETECTOR_TOKEN"


@click.command(
    epilog="""\b
Examples:
  detector serve runs/detector/textures/brick
  curl --data-binary @photo.jpg 'http://127.0.0.1:8000/predict?include=mask'
  DETECTOR_TOKEN=... detector serve runs/detector/parts/bolt --host 0.0.0.0

\b
GET /health tells what is served, GET /metrics counts and times for Prometheus (docs/predict.md).
""",
)
@checkpoint_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any."
)
@click.option(
    "--most-mib",
    default=32,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="MiB of the largest body.",
)
@click.option(
    "--most-megapixels",
    default=32,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Of the largest image.",
)
@click_options(PredictOptions, only=("image_score", "false_alarms", "precision", "least_area"))
@device_option
def serve(
    checkpoint: Path,
    host: str,
    port: int,
    most_mib: int,
    most_megapixels: int,
    image_score: str | None,
    false_alarms: float,
    precision: str,
    least_area: int,
    device: str,
) -> None:
    """Answer over HTTP: POST an image, get score, decision and boxes as JSON.

    Other addresses than this machine's own need a token in $DETECTOR_TOKEN, which every request
    but /health must carry: Authorization: Bearer TOKEN.
    """
    from sia_gen.core.errors import UserError

    token = os.environ.get(TOKEN, "")
    if host not in LOOPBACK and len(token) < 16:
        raise UserError(
            f"--host {host} can be reached from elsewhere: set {TOKEN} to a secret of at least 16"
            " characters, e.g. `openssl rand -hex 16`"
        )
    try:
        import uvicorn

        from detector.service import Limits, make_app
    except ImportError as error:
        raise UserError(
            f"serve needs the packages of the extra `serve` ({error.name} is missing): pip install"
            " 'sia-gen[serve]'"
        ) from error
    from detector.api import Detector

    detector = Detector.load(
        checkpoint,
        device=device,
        precision=precision,
        image_score=image_score,
        false_alarms=false_alarms,
        least_area=least_area,
    )
    limits = Limits(most_bytes=most_mib << 20, most_pixels=most_megapixels * 1_000_000)
    tell(f"{detector.category}: threshold {detector.threshold:.4g} from {detector.decision.origin}")
    uvicorn.run(make_app(detector, limits, token), host=host, port=port, log_level="warning")
