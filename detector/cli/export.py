"""`detector export`."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import checkpoint_argument
from sia_gen.core.commands import json_option, print_json, tell


@click.command(
    epilog="""\b
Examples:
  detector export runs/detector/textures/brick --out brick.onnx
  detector export runs/detector/textures/brick --out brick.pt2 --format torch
""",
)
@checkpoint_argument
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch"]),
    default="onnx",
    show_default=True,
    help="ONNX, or torch.export's file.",
)
@json_option
def export(checkpoint: Path, out: Path, kind: str, as_json: bool) -> None:
    """Write a checkpoint for other runtimes, once its maps there equal those here."""
    from detector.inference.export import export as run_export

    facts = run_export(checkpoint, out, kind)
    if as_json:
        print_json(facts)
        return
    tell(f"{out}: scores differ by up to {facts['largest_deviation']:.1e}; input {facts['input']}")
