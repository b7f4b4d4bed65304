"""`harness peers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import json_option, print_json, show, tell
from harness.peers.options import Options
from sia_gen.core.commands import Group, click_options
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.options import taken

EPILOG = """\b
Example:
  harness peers list
  harness peers run --model patchcore,padim --data parts --categories bolt \\
      --weights mobilenetv2_100.safetensors --out runs/peers

\b
They need anomalib: pip install '.[peers]' in a checkout. See docs/peers.md.
"""


@click.group(cls=Group, epilog=EPILOG)
def peers() -> None:
    """Run other people's detectors on the same images, weights and metrics."""


@peers.command(
    "list",
    epilog="""\b
Examples:
  harness peers list
  harness peers list --published
""",
)
@click.option("--published", is_flag=True, help="The systems of the papers' tables instead.")
@json_option
def list_(published: bool, as_json: bool) -> None:
    """Show the models by name, and what each needs to run."""
    from harness.peers import INSTALL, installed, listing

    found = listing.systems() if published else listing.models()
    if as_json:
        print_json(found)
    else:
        print(listing.as_text(found), end="")
    if not installed() and not published:
        tell(f"anomalib is not installed, nothing here can run: {INSTALL}")


@peers.command(
    epilog="""\b
Examples:
  harness peers run --model patchcore,padim,stfpm --data parts --categories bolt \\
      --weights mobilenetv2_100.safetensors --out runs/peers
  harness peers run --model all --data parts --weights pretrained --backbone wide_resnet50_2 \\
      --out runs/peers --set cflow.steps=200 --set patchcore.coreset_sampling_ratio=0.02

\b
Run again, it fills the gaps: finished cells are kept, failed ones are tried again.
Exit code 3: some cells failed; each is a row, with its log in OUT/<model>/.../log.txt.
""",
)
@click_options(Options)
@json_option
def run(as_json: bool, **values: Any) -> None:
    """Train and score models, each in a process of its own, and measure them.

    The whole test set, last weights, exact PRO: the metrics and the protocol of every other row.
    """
    from harness.peers import require

    require()
    from harness.peers import plan, rows
    from harness.peers import run as running
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.pip_weights import PIP, lite_weights

    if values["weights"] == PIP:
        values["backbone"] = values["backbone"] or "tf_efficientnet_lite0"
        values["weights"] = str(lite_weights(values["backbone"]))
    for name in ("weights", "textures"):  # a cell runs in a folder of its own
        if values[name] not in {"", plan.PRETRAINED}:
            values[name] = str(Path(values[name]).resolve())
    options = taken(Options, values)
    out = options.out
    target = options.results or out / "results"
    if target.exists() and not target.is_dir():
        raise UserError(f"--results {target} is a file: give a folder")
    dataset = open_dataset(options.data, options.value_range)
    chosen = dataset.select(options.categories)
    cells = plan.cells(options, dataset.origin or options.data, chosen)
    found: list[dict[str, Any]] = []
    outcomes = running.run(
        cells,
        out,
        minutes=options.minutes,
        tell=tell,
        publish=lambda outcome: found.append(rows.record(outcome, target, lambda _: None)),
    )
    show(found, target, as_json)
    failed = [o for o in outcomes if o.state == running.FAILED]
    if failed:
        named = "; ".join(f"{o.cell.label}: {o.reason}" for o in failed[:5])
        raise IncompleteError(
            f"{len(failed)} of {len(outcomes)} cells failed ({named}); mend the cause and run the"
            " same command again: finished cells are kept"
        )
