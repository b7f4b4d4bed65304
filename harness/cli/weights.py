"""`harness weights`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import print_json
from sia_gen.core.commands import Group
from sia_gen.core.errors import UserError, VerificationError

MARKS = {"ready": "ready", "missing": "missing", "wrong": "wrong file", "package": "lacks package"}


@click.group(cls=Group)
def weights() -> None:
    """Say which feature networks' weights are here, where they are looked for, how to get them."""


@weights.command(
    "list",
    epilog="""\b
Examples:
  harness weights list
  harness weights list --json
""",
)
@click.option("--json", "as_json", is_flag=True, help="The list as JSON on stdout.")
def list_(as_json: bool) -> None:
    """List every named network with its file, its hash and whether it is there."""
    _show((), None, as_json)


@weights.command(
    epilog="""\b
Examples:
  harness weights check
  harness weights check alex --file downloads/alexnet-owt-7be5be79.pth

\b
Exit codes: 0 all are ready, 4 one is missing or is another file than its name says.
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--file", type=click.Path(path_type=Path), help="A file to check, of the one NAME.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON on stdout.")
def check(names: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Check weights by their hashes; without names, all of the list."""
    if file is not None and len(names) != 1:
        raise UserError("--file belongs to one network: name it, e.g. `harness weights check alex`")
    bad = _show(names, file, as_json)
    if bad:
        raise VerificationError(f"not ready: {', '.join(bad)}; what to do stands above")


def _show(names: tuple[str, ...], file: Path | None, as_json: bool) -> list[str]:
    from harness.quality import weights_list as room

    found = [room.look(entry, file) for entry in room.chosen(names)]
    if as_json:
        print_json([
            {"name": s.entry.name, "use": s.entry.use, "file": s.entry.file, "state": s.state,
             "sha256_begins": s.entry.sha256, "sha256": s.sha256, "searched": list(s.searched),
             "found": s.found, "url": s.entry.url, "what_to_do": s.what_to_do} for s in found
        ])  # fmt: skip
    else:
        for s in found:
            print(f"{s.entry.name:10} {MARKS[s.state]:14} {s.entry.use}")
            print(f"{'':10} file      {s.entry.file}"
                  f"{f', SHA-256 begins {s.entry.sha256}' if s.entry.sha256 else ''}")  # fmt: skip
            if s.found:
                print(f"{'':10} found     {s.found} ({s.sha256[:12]})")
            else:
                print(f"{'':10} looked at {', '.join(s.searched)}")
            if s.what_to_do:
                print(f"{'':10} to do     {s.what_to_do}")
    return [s.entry.name for s in found if s.state != "ready"]
