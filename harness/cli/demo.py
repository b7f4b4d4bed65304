"""`harness demo`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Example:
  harness demo --out runs/demo
  harness demo --recipe my-demo.yaml --out runs/mine
""",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    metavar="DIR",
    help="Folder of everything the demo makes.",
)
@click.option("--recipe", default="demo", show_default=True, help="Recipe with the stages.")
def demo(out: Path, recipe: str) -> None:
    """Run the whole pipeline on the embedded data; run again, it resumes.

    Every stage is a command of this project and is printed before it runs.
    """
    from harness.reproduce.demo import run

    run(recipe, out)
