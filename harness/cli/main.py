"""`harness`: the commands that measure. Each imports what it needs when it runs."""

from __future__ import annotations

import json
import sys

import click

from harness.cli.board import leaderboard
from harness.cli.compare import compare
from harness.cli.demo import demo
from harness.cli.detection import baseline, evaluate
from harness.cli.options import SETTINGS
from harness.cli.peers import peers
from harness.cli.quality import quality
from harness.cli.reproduce import reproduce
from harness.cli.submit import submit
from harness.cli.weights import weights
from sia_gen import __version__
from sia_gen.core.commands import folders_only
from sia_gen.core.errors import UserError, near_names, run_command

EPILOG = """\b
Example, on the embedded dataset:
  harness baseline --data textures --category all --out runs/baseline
  harness evaluate runs/baseline --out runs/results
  harness leaderboard runs/results --html runs/leaderboard.html

\b
Exit codes: 0 done, 1 internal error, 2 usage or input, 3 finished but incomplete,
4 a record does not match its name, 130 and 143 stopped by a signal.
"""


class Group(click.Group):
    """A group that offers near names for a misspelt command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments begin with."""
        if not ctx.resilient_parsing and args[0] not in self.commands and args[0][:1] != "-":
            near = near_names(args[0], sorted(self.commands))
            raise click.UsageError(f"No such command {args[0]!r}.{near}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order of use, not of the alphabet."""
        del ctx
        return list(self.commands)


@click.group(cls=Group, epilog=EPILOG, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="harness")
def group() -> None:
    """Measure synthetic anomalies and detectors, and rank what was measured."""


for command in (
    demo, quality, baseline, evaluate, submit, leaderboard, compare, reproduce, peers,
    weights,
):  # fmt: skip
    group.add_command(folders_only(command))


def _call() -> None:
    try:
        code = group.main(prog_name="harness", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "harness"
        message = f"{' '.join(error.format_message().split())} (see `{path} --help`)"
        _json_error(message, 2)
        raise UserError(message) from error
    except click.ClickException as error:
        raise UserError(error.format_message()) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except UserError as error:
        _json_error(str(error), error.exit_code)
        raise
    if isinstance(code, int) and code:
        sys.exit(code)


def _json_error(message: str, code: int) -> None:
    if "--json" in sys.argv[1:]:
        print(json.dumps({"error": message, "exit_code": code}))


def main() -> None:
    """Runs the command line."""
    run_command(_call)


if __name__ == "__main__":
    main()
