"""Command lines of one kind: lazy groups, options from dataclasses, errors in one line or JSON.

A group imports a command's module only when that command is used. A usage error is one line and
exit code 2; with --json an error is also a JSON object on stdout.
"""

from __future__ import annotations

import importlib
import json
import keyword
import sys
from typing import Any

import click

from sia_gen.core.errors import UserError, near_names, run_command
from sia_gen.core.flags import Option, click_options, given, logged, make_option
from sia_gen.core.log import say
from sia_gen.core.options import OptionError
from sia_gen.core.store.objects import require_local
from sia_gen.core.version import __version__

__all__ = [
    "SETTINGS", "Group", "LazyGroup", "Option", "call", "click_options", "given", "json_option",
    "make_option", "print_json", "public_option", "run_group", "tell",
]  # fmt: skip

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def folders_only(command: click.Command) -> click.Command:
    """Returns the command with each path it takes checked: an address is refused at once.

    What takes addresses as well is an option of text, and is located by the command itself.
    """
    for parameter in command.params:
        if isinstance(parameter.type, click.Path) and parameter.callback is None:
            parameter.callback = _refuse_address
    return command


def _refuse_address(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    del ctx
    for place in value if isinstance(value, tuple) else (value,):
        if place is not None:
            require_local(place, parameter.opts[0])
    return value


class Group(click.Group):
    """A group that keeps the order of use and offers near names for a misspelt command."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command with the options that every command has."""
        found = super().get_command(ctx, cmd_name)
        return logged(found) if found is not None else None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order of use, not of the alphabet."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments begin with; a misspelt one gets near names."""
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and args[0] not in known and args[0][:1] != "-":
            raise click.UsageError(f"No such command {args[0]!r}.{near_names(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)


EXIT_CODES = """
\b
Exit codes: 0 done, 1 internal error, 2 usage, input or resources, 3 finished but
incomplete, 4 verification failed, 5 locked by another run, 6 training diverged,
130 and 143 stopped by a signal.
"""


class LazyGroup(Group):
    """A tool over a table of its commands: each name with its line in the help.

    A command NAME is the function of that name in PACKAGE.NAME, or in another module of the package
    where `homes` says so; a name that Python keeps for itself ends in an underscore there.
    """

    def __init__(
        self,
        tool: str,
        package: str,
        table: dict[str, str],
        homes: dict[str, str] | None = None,
        *,
        about: str,
        example: str,
    ) -> None:
        epilog = example + EXIT_CODES
        super().__init__(tool, help=about, epilog=epilog, context_settings=SETTINGS)
        self.package, self.table, self.homes = package, table, homes or {}
        click.version_option(__version__, prog_name=tool)(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order of the table, which is the order of use."""
        del ctx
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one command."""
        del ctx
        if cmd_name not in self.table:
            return None
        name = cmd_name + "_" * keyword.iskeyword(cmd_name)
        module = importlib.import_module(f"{self.package}.{self.homes.get(name, name)}")
        command: click.Command = getattr(module, name)
        return logged(folders_only(command))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a reader of stdout that went away is not click's business."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGoneError from error


class _ReaderGoneError(Exception):
    """stdout was closed by its reader."""


json_option = click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")

public_option = click.option(
    "--public", is_flag=True, help="Let everybody see a new repository; else it is private."
)

_printed = False


def print_json(value: Any) -> None:
    """Writes a command's result to stdout as JSON; an error after it stays on stderr alone."""
    global _printed
    print(json.dumps(value, indent=2, allow_nan=False))
    _printed = True


tell = say  # a line of progress on stderr


def _json_error(message: str, code: int) -> None:
    if "--json" in sys.argv[1:] and not _printed:
        print(json.dumps({"error": message, "exit_code": code}))


def call(group: click.Group) -> None:
    """Runs a group on sys.argv; usage errors become UserError, in one line."""
    global _printed
    _printed = False
    try:
        code = group.main(prog_name=group.name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else group.name
        message = f"{' '.join(error.format_message().split())} (see `{path} --help`)"
        _json_error(message, 2)
        raise UserError(message) from error
    except click.ClickException as error:
        _json_error(error.format_message(), 2)
        raise UserError(error.format_message()) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except UserError as error:
        if isinstance(error, OptionError):
            error.say_as_typed(sys.argv)
        _json_error(str(error), error.exit_code)
        raise
    except _ReaderGoneError as error:
        raise BrokenPipeError from error
    if isinstance(code, int) and code:
        sys.exit(code)


def run_group(group: click.Group) -> None:
    """Runs a command line to its exit code: what the console script calls."""
    run_command(lambda: call(group))
