"""`detector`: the table of its commands. Each is in its own module and is imported when used."""

from __future__ import annotations

from sia_gen.core.commands import LazyGroup, run_group

COMMANDS = {
    "train": "Train one detector for each category, or one for all; run again to resume.",
    "score": "Write the score maps of test images, for `harness evaluate`.",
    "predict": "Write heat maps and decisions for images without labels.",
    "serve": "Answer over HTTP: POST an image, get score, decision and boxes as JSON.",
    "explain": "Draw which channels feature selection kept, and how well they show an anomaly.",
    "export": "Write a checkpoint for other runtimes, once its maps there equal those here.",
    "info": "Tell what a checkpoint is: recipe, backbone, data, training, threshold.",
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


group = LazyGroup(
    "detector",
    "detector.cli",
    COMMANDS,
    help="Train anomaly detectors on normal images and synthetic anomalies, and apply them.",
    epilog=EPILOG,
)


def main() -> None:
    """Runs the command line."""
    run_group(group)
