"""`detector`: the table of its commands. Each is in its own module and is imported when used."""

from __future__ import annotations

import click

from sia_gen import __version__
from sia_gen.core.commands import SETTINGS, LazyCommand, LazyGroup, run_group

COMMANDS = {
    "train": LazyCommand(
        target="detector.cli.train:train",
        help="Train one detector for each category, or one for all; run again to resume.",
    ),
    "score": LazyCommand(
        target="detector.cli.score:score",
        help="Write the score maps of test images, for `harness evaluate`.",
    ),
    "predict": LazyCommand(
        target="detector.cli.predict:predict",
        help="Write heat maps and decisions for images without labels.",
    ),
    "serve": LazyCommand(
        target="detector.cli.serve:serve",
        help="Answer over HTTP: POST an image, get score, decision and boxes as JSON.",
    ),
    "explain": LazyCommand(
        target="detector.cli.explain:explain",
        help="Draw which channels feature selection kept, and how well they show an anomaly.",
    ),
    "export": LazyCommand(
        target="detector.cli.export:export",
        help="Write a checkpoint for other runtimes, once its maps there equal those here.",
    ),
    "push": LazyCommand(
        target="detector.cli.push:push",
        help="Upload a checkpoint to the Hugging Face Hub.",
    ),
    "info": LazyCommand(
        target="detector.cli.info:info",
        help="Tell what a checkpoint is: recipe, backbone, data, training, threshold.",
    ),
}

EPILOG = """\b
Example, on the embedded dataset:
  sia-gen run --per-category 64
  detector train --shards runs/sia
  detector score

\b
Exit codes: 0 done, 1 internal error, 2 usage, input or resources, 3 finished but
incomplete, 4 verification failed, 5 locked by another training, 6 training diverged,
130 and 143 stopped by a signal.
"""


@click.group(cls=LazyGroup, lazy=COMMANDS, epilog=EPILOG, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="detector")
def group() -> None:
    """Train anomaly detectors on normal images and synthetic anomalies, and apply them."""


def main() -> None:
    """Runs the command line."""
    run_group(group, "detector")


if __name__ == "__main__":
    main()
