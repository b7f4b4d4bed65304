"""`sia-gen push`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from sia_gen.core.commands import json_option, print_json, public_option, tell


@click.command(
    "push",
    epilog="""\b
Examples:
  sia-gen push runs/first somebody/bolts-sia
  sia-gen push runs/model/model somebody/bolts-model
  sia-gen run --model hf://somebody/bolts-model --data photos/ --out runs/more
  detector train --shards hf://datasets/somebody/bolts-sia --data photos/
""",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repository")
@public_option
@json_option
def push(folder: Path, repository: str, public: bool, as_json: bool) -> None:
    """Upload FOLDER, a finished run or a model, to REPOSITORY (OWNER/NAME) with its card.

    Log in before with `hf auth login`, or set HF_TOKEN. A run that lacks shards is refused.
    """
    from sia_gen.care.push import push as upload

    address = upload(folder, repository, public=public)
    if as_json:
        print_json({"folder": str(folder), "repository": repository, "address": address})
    else:
        tell(address)
