"""sia-gen: the table of its commands. Each lives in its own module and is imported when used."""

from __future__ import annotations

import click

from sia_gen import __version__
from sia_gen.core.commands import SETTINGS, LazyCommand, LazyGroup, run_group

COMMANDS = {
    "train": LazyCommand(
        target="sia_gen.cli.train:train",
        help="Train a diffusion model on the normal images of a dataset.",
    ),
    "import": LazyCommand(
        target="sia_gen.cli.import_:import_checkpoint",
        help="Turn a public ADM checkpoint into a model folder.",
    ),
    "check": LazyCommand(
        target="sia_gen.cli.check:check",
        help="Look through a dataset: what it is, its counts, every problem.",
    ),
    "preview": LazyCommand(
        target="sia_gen.cli.preview:preview",
        help="Draw a contact sheet: normal images beside rising strengths.",
    ),
    "probe": LazyCommand(
        target="sia_gen.cli.probe:probe",
        help="Measure images/s by batch size, before a long run.",
    ),
    "plan": LazyCommand(
        target="sia_gen.cli.run:plan",
        help="Show what a run would make, and write nothing.",
    ),
    "run": LazyCommand(
        target="sia_gen.cli.run:run",
        help="Generate synthetic anomalies as shards; run again to resume.",
    ),
    "synthesize": LazyCommand(
        target="sia_gen.cli.synthesize:synthesize",
        help="Write training pairs (image, mask, provenance) of one method as shards.",
    ),
    "status": LazyCommand(
        target="sia_gen.cli.care:status",
        help="Show how far a run is, from its files alone.",
    ),
    "verify": LazyCommand(
        target="sia_gen.cli.care:verify",
        help="Check every byte of a run against its records.",
    ),
    "repair": LazyCommand(
        target="sia_gen.cli.care:repair",
        help="Make again exactly what verify condemns.",
    ),
    "retry": LazyCommand(
        target="sia_gen.cli.care:retry",
        help="Make the shards that were given up once more.",
    ),
    "pack": LazyCommand(
        target="sia_gen.cli.pack:pack",
        help="Turn an existing folder of images into the same shards.",
    ),
    "push": LazyCommand(
        target="sia_gen.cli.push:push",
        help="Upload a finished run or a model to the Hugging Face Hub.",
    ),
}

EPILOG = """\b
Example, on the embedded dataset with the shipped model:
  sia-gen run --per-category 60 --out runs/first
  sia-gen verify runs/first
  sia-gen preview --out sheet.png

\b
Exit codes: 0 done, 1 internal error, 2 usage, input or resources, 3 finished but
incomplete, 4 verification failed, 5 locked by another run, 6 training diverged,
130 and 143 stopped by a signal.
"""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=EPILOG,
    context_settings=SETTINGS,
)
@click.version_option(__version__, prog_name="sia-gen")
def group() -> None:
    """Synthesise realistic anomalies from normal images only."""


def main() -> None:
    """Runs the command line."""
    run_group(group, "sia-gen")


if __name__ == "__main__":
    main()
