"""`detector serve`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from detector.cli.options import checkpoint_argument
from detector.inference.options import PredictOptions
from sia_gen.core import shared_options
from sia_gen.core.commands import click_options, tell
from sia_gen.core.options import Checked, like, option, taken

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "DETECTOR_TOKEN"


@dataclass(frozen=True, kw_only=True)
class ServeOptions(Checked):
    """Where the service listens, what it takes, and how it decides."""

    host: str = option("127.0.0.1", "Address to listen on.")
    port: int = option(8000, "0: any.", low=0, high=65535)
    most_mib: int = option(32, "MiB of the largest body.", low=1, high=1024)
    most_megapixels: int = option(32, "Of the largest image.", low=1, high=64)
    image_score: str | None = like(PredictOptions, "image_score")
    false_alarms: float = like(PredictOptions, "false_alarms")
    precision: str = like(PredictOptions, "precision")
    least_area: int = like(PredictOptions, "least_area")
    device: str = shared_options.device()


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
@click_options(ServeOptions)
def serve(checkpoint: Path, **values: Any) -> None:
    """Answer over HTTP: POST an image, get score, decision and boxes as JSON.

    Other addresses than this machine's own need a token in $DETECTOR_TOKEN, which every request
    but /health must carry: Authorization: Bearer TOKEN.
    """
    from sia_gen.core.errors import UserError

    options: ServeOptions = taken(ServeOptions, values)
    token = os.environ.get(TOKEN, "")
    if options.host not in LOOPBACK and len(token) < 16:
        raise UserError(
            f"--host {options.host} can be reached from elsewhere: set {TOKEN} to a secret of at"
            " least 16 characters, e.g. `openssl rand -hex 16`"
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
        device=options.device,
        precision=options.precision,
        image_score=options.image_score,
        false_alarms=options.false_alarms,
        least_area=options.least_area,
    )
    limits = Limits(
        most_bytes=options.most_mib << 20, most_pixels=options.most_megapixels * 1_000_000
    )
    tell(f"{detector.category}: threshold {detector.threshold:.4g} from {detector.decision.origin}")
    app = make_app(detector, limits, token)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
