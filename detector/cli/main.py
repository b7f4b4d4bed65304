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
    "push": "Upload a checkpoint to the Hugging Face Hub.",
    "info": "Tell what a checkpoint is: recipe, backbone, data, training, threshold.",
}

EXAMPLE = """\b
Example, on the embedded dataset:
  sia-gen run --per-category 64
  detector train --shards runs/sia
  detector score
"""


group = LazyGroup(
    "detector",
    "detector.cli",
    COMMANDS,
    about="Train anomaly detectors on normal images and synthetic anomalies, and apply them.",
    example=EXAMPLE,
)


def main() -> None:
    """Runs the command line."""
    run_group(group)
