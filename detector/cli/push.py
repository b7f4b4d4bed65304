"""`detector push`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import checkpoint_argument
from sia_gen.core.commands import json_option, print_json, public_option, tell


@click.command(
    epilog="""\b
Examples:
  detector push runs/detector/parts/bolt somebody/bolt-detector
  detector predict photos/ --model hf://somebody/bolt-detector --out runs/answers
""",
)
@checkpoint_argument
@click.argument("repository")
@public_option
@json_option
def push(checkpoint: Path, repository: str, public: bool, as_json: bool) -> None:
    """Upload CHECKPOINT to REPOSITORY (OWNER/NAME) on the Hugging Face Hub, with a card.

    Log in before with `hf auth login`, or set HF_TOKEN.
    """
    from detector.inference.push import push as upload

    address = upload(checkpoint, repository, public=public)
    if as_json:
        print_json({"folder": str(checkpoint), "repository": repository, "address": address})
    else:
        tell(address)
