"""A command group that imports a command's module only when that command is used.

It also speaks the errors of the command line as all others are spoken here: one line, exit code 2;
and with --json as a JSON object on stdout beside it.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import click

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.store.objects import require_local


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


@dataclass(frozen=True, kw_only=True)
class LazyCommand:
    """Where a command is (module:attribute), and its one line in the group's help."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group over a table of lazy commands."""

    def __init__(self, *args: Any, lazy: dict[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order of the table, which is the order of use."""
        del ctx
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one command."""
        del ctx
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return folders_only(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments begin with; a misspelt one gets near names."""
        if not ctx.resilient_parsing and args[0] not in self.lazy and args[0][:1] != "-":
            near = near_names(args[0], list(self.lazy))
            raise click.UsageError(f"No such command {args[0]!r}.{near}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a reader of stdout that went away is not click's business."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGoneError from error


class _ReaderGoneError(Exception):
    """stdout was closed by its reader."""


def _json_error(message: str, code: int) -> None:
    if "--json" in sys.argv[1:]:
        print(json.dumps({"error": message, "exit_code": code}))


def call(group: click.Group, prog_name: str) -> None:
    """Runs a group on sys.argv; usage errors become UserError, in one line."""
    try:
        code = group.main(prog_name=prog_name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        message = " ".join(error.format_message().split())
        path = error.ctx.command_path if error.ctx else prog_name
        _json_error(message, 2)
        raise UserError(f"{message} (see `{path} --help`)") from error
    except click.ClickException as error:
        raise UserError(error.format_message()) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except UserError as error:
        _json_error(str(error), error.exit_code)
        raise
    except _ReaderGoneError as error:
        raise BrokenPipeError from error
    if isinstance(code, int) and code:
        sys.exit(code)
