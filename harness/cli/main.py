"""`harness`: the table of its commands. Each is in its own module and is imported when used."""

from __future__ import annotations

from sia_gen.core.commands import LazyGroup, run_group

COMMANDS = {
    "demo": "Run the whole pipeline on the embedded data; run again, it resumes.",
    "quality": "Measure synthetic images against real ones.",
    "baseline": "Score test images by plain colour statistics, the row that a detector must beat.",
    "evaluate": "Measure detection: image and pixel AUROC and AP, and PRO, of score folders.",
    "submit": "Take in score maps of any detector, checked against the test images, to be ranked.",
    "leaderboard": "Rank results: a table, CSV, JSON, Markdown or LaTeX, and an HTML page.",
    "compare": "Compare two detectors on the same images: paired intervals, the images that flip.",
    "reproduce": "Make a table of a paper again: published | measured | difference.",
    "peers": "Run other people's detectors on the same images, weights and metrics.",
    "weights": "Say which feature networks' weights are here, and how to get the others.",
}

EXAMPLE = """\b
Example, on the embedded dataset:
  harness baseline --out runs/baseline
  harness evaluate runs/baseline --out runs/results
  harness leaderboard runs/results --html runs/leaderboard.html
"""


group = LazyGroup(
    "harness",
    "harness.cli",
    COMMANDS,
    {"evaluate": "detection", "baseline": "detection", "leaderboard": "board"},
    about="Measure synthetic anomalies and detectors, and rank what was measured.",
    example=EXAMPLE,
)


def main() -> None:
    """Runs the command line."""
    run_group(group)
