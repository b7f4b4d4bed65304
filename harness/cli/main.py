"""`harness`: the table of its commands. Each is in its own module and is imported when used."""

from __future__ import annotations

import click

from sia_gen import __version__
from sia_gen.core.commands import SETTINGS, LazyCommand, LazyGroup, run_group

COMMANDS = {
    "demo": LazyCommand(
        target="harness.cli.demo:demo",
        help="Run the whole pipeline on the embedded data; run again, it resumes.",
    ),
    "quality": LazyCommand(
        target="harness.cli.quality:quality",
        help="Measure synthetic images against real ones.",
    ),
    "baseline": LazyCommand(
        target="harness.cli.detection:baseline",
        help="Score test images by plain colour statistics, the row that a detector must beat.",
    ),
    "evaluate": LazyCommand(
        target="harness.cli.detection:evaluate",
        help="Measure detection: image and pixel AUROC and AP, and PRO, of score folders.",
    ),
    "submit": LazyCommand(
        target="harness.cli.submit:submit",
        help="Take in score maps of any detector, checked against the test images, to be ranked.",
    ),
    "leaderboard": LazyCommand(
        target="harness.cli.board:leaderboard",
        help="Rank results: a table, CSV, JSON, Markdown or LaTeX, and an HTML page.",
    ),
    "compare": LazyCommand(
        target="harness.cli.compare:compare",
        help="Compare two detectors on the same images: paired intervals, the images that flip.",
    ),
    "reproduce": LazyCommand(
        target="harness.cli.reproduce:reproduce",
        help="Make a table of a paper again: published | measured | difference.",
    ),
    "peers": LazyCommand(
        target="harness.cli.peers:peers",
        help="Run other people's detectors on the same images, weights and metrics.",
    ),
    "weights": LazyCommand(
        target="harness.cli.weights:weights",
        help="Say which feature networks' weights are here, and how to get the others.",
    ),
}

EPILOG = """\b
Example, on the embedded dataset:
  harness baseline --out runs/baseline
  harness evaluate runs/baseline --out runs/results
  harness leaderboard runs/results --html runs/leaderboard.html

\b
Exit codes: 0 done, 1 internal error, 2 usage or input, 3 finished but incomplete,
4 a record does not match its name, 130 and 143 stopped by a signal.
"""


@click.group(cls=LazyGroup, lazy=COMMANDS, epilog=EPILOG, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="harness")
def group() -> None:
    """Measure synthetic anomalies and detectors, and rank what was measured."""


def main() -> None:
    """Runs the command line."""
    run_group(group, "harness")


if __name__ == "__main__":
    main()
