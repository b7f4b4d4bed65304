"""`sia-gen status`, `verify`, `repair` and `retry`: what is known of a run folder, its mending."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from sia_gen.cli.run import execution_options, how
from sia_gen.core.commands import json_option, print_json
from sia_gen.core.errors import IncompleteError
from sia_gen.core.log import fail, say
from sia_gen.core.text import printable


@click.command(
    "status",
    epilog="""\b
Example:
  sia-gen status runs/first
Exit code 3 until every shard is there.
""",
)
@click.argument("run")
@json_option
def status(run: str, as_json: bool) -> None:
    """Show how far the run folder RUN is, from its files alone."""
    from sia_gen.care import status as state

    found = state.read(state.require_run(run))
    if as_json:
        print_json(found)
    else:
        print(printable(state.describe(found), lines=True))
    if found["state"] != "complete":
        sys.exit(IncompleteError.exit_code)


@click.command(
    "verify",
    epilog="""\b
Example:
  sia-gen verify runs/first
Exit code 4 and one line for each problem when something is wrong.
""",
)
@click.argument("run")
@json_option
def verify(run: str, as_json: bool) -> None:
    """Check sizes, checksums, counts, decoding, pixels and duplicates of the run folder RUN.

    RUN is a folder of `run`, `synthesize` or `pack`; of the latter two duplicates are no fault.
    """
    from sia_gen.care.status import require_run
    from sia_gen.care.verify import verify as check
    from sia_gen.core.errors import VerificationError
    from sia_gen.core.progress import counter

    path = require_run(run)
    report = check(path, counter("verified", "shards"))
    if as_json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            print(printable(f"{problem.kind}: {problem.file} {problem.detail}"))
    if report.problems:
        message = (
            f"{len(report.problems)} problems in {run}; `sia-gen repair {run}` makes condemned"
            " shards again"
        )
        fail(message, exit_code=VerificationError.exit_code)
        sys.exit(VerificationError.exit_code)
    say(f"{run}: {report.shards} shards, {report.images} images, all well")


def _mending(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of making shards again."""
    data = click.option("--data", metavar="DIR", help="Where the dataset is now, if it was moved.")
    model = click.option(
        "--model", metavar="MODEL", help="Where the model is now, if it was moved."
    )
    decorated: Callable[..., None] = data(model(how(json_option(command))))
    return decorated


def _figures(
    mending: Callable[..., dict[str, Any]], run: str, values: dict[str, Any]
) -> dict[str, Any]:
    """Mends a run and returns the closing figures, which are printed where JSON is asked for."""
    from sia_gen.care.status import require_run
    from sia_gen.generate import contents
    from sia_gen.runs import folder

    path = require_run(run)
    heavy = contents.find(folder.read(path)["kind"]).HEAVY
    moved = {name: values[name] for name in ("data", "model")}
    figures = mending(path, execution_options(values, heavy=heavy), **moved)
    if values["as_json"]:
        print_json(figures)
    return figures


@click.command(
    "repair",
    epilog="""\b
Example:
  sia-gen repair runs/first --executor local
""",
)
@click.argument("run")
@_mending
def repair(run: str, **values: Any) -> None:
    """Verify the run folder RUN, drop what is condemned, and make exactly that again.

    RUN is a folder of `run`, `synthesize` or `pack`.
    """
    from sia_gen.care.repair import repair as mend

    figures = _figures(mend, run, values)
    if values["as_json"]:
        return
    say(
        f"{run}: {figures['problems']} problems, {len(figures['dropped'])} files dropped,"
        f" {figures['shards_made_now']} shards made again"
    )
    for name in figures["foreign"]:
        say(f"{run}: {name} is not in the plan and was left alone")


@click.command(
    "retry",
    epilog="""\b
Example:
  sia-gen retry runs/first --deadline 7200
Exit code 3 when some fail again.
""",
)
@click.argument("run")
@_mending
def retry(run: str, **values: Any) -> None:
    """Make the quarantined shards of the run folder RUN (RUN/failed/), and only them."""
    from sia_gen.care.repair import retry as again

    figures = _figures(again, run, values)
    if values["as_json"]:
        return
    missing = figures["shards_missing"]
    rest = (
        f"; {missing} shards are missing: the command that began the run makes them"
        if missing
        else ""
    )
    say(f"{run}: {len(figures['retried'])} failed shards tried again{rest}")
