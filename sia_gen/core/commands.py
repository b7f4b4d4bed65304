"""Command lines of one kind: lazy groups, options from dataclasses, errors in one line or JSON.

A group imports a command's module only when that command is used. A usage error is one line and
exit code 2; with --json an error is also a JSON object on stdout.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import keyword
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sia_gen.core.errors import UserError, near_names, run_command
from sia_gen.core.options import OptionError, Setting, coerced, settings, split_optional
from sia_gen.core.store.objects import require_local
from sia_gen.core.text import say
from sia_gen.core.version import __version__


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


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Group(click.Group):
    """A group that keeps the order of use and offers near names for a misspelt command."""

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
        return folders_only(command)

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


class Option(click.Option):
    """An option that is also read under former names, which no help and no hint shows."""

    def __init__(
        self, *args: Any, former: tuple[str, ...] = (), told: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.former = former
        self.opts += former
        self.told = told  # the default as the help words it, where click does not know it

    def _shown(self, tell: Callable[[], Any]) -> Any:
        every = self.opts
        self.opts = [name for name in every if name not in self.former]
        try:
            return tell()
        finally:
            self.opts = every

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Returns the option's two columns in the help."""
        found: tuple[str, str] | None = self._shown(
            lambda: super(Option, self).get_help_record(ctx)
        )
        return found

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Returns what stands in brackets behind the help text."""
        extra = super().get_help_extra(ctx)
        if self.told is not None:
            extra["default"] = self.told
        return extra

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Returns how an error names the option."""
        return str(self._shown(lambda: super(Option, self).get_error_hint(ctx)))


class _ListType(click.ParamType):
    """A list in one argument: 24,32,64."""

    name = "list"

    def __init__(self, wanted: Any) -> None:
        self.wanted = wanted

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the tuple; click's own error where an item has another type."""
        where = param.opts[0] if param is not None else "list"
        try:
            return coerced(value, self.wanted, where)
        except UserError as error:
            self.fail(str(error).partition(": ")[2], param, ctx)


def _click_type(one: Setting, wanted: Any) -> Any:
    facts = one.facts
    if facts.choices:
        return click.Choice(facts.choices)
    if typing.get_origin(wanted) is tuple:
        inner = typing.get_args(wanted)
        listed = inner[-1:] == (...,)
        return _scalar_type(inner[0], facts) if facts.repeat or not listed else _ListType(wanted)
    return _scalar_type(wanted, facts)


def _scalar_type(wanted: Any, facts: Any) -> Any:
    if wanted is Path:
        return click.Path(path_type=Path)
    if wanted not in {int, float}:
        return wanted
    low = facts.low if facts.above is None else facts.above
    high = facts.high if facts.below is None else facts.below
    if low is None and high is None:
        return wanted
    kind = click.IntRange if wanted is int else click.FloatRange
    return kind(low, high, min_open=facts.above is not None, max_open=facts.below is not None)


def make_option(one: Setting, *, layered: bool = False, **changes: Any) -> Option:
    """Returns click's option of a setting.

    `layered`: it overrides a recipe, so that None means "not given"; the help still tells the
    default.
    """
    wanted, _ = split_optional(one.type)
    facts = one.facts
    former = tuple("--" + name.replace("_", "-").lstrip("-") for name in facts.former)
    given: dict[str, Any] = {"help": facts.help, "former": former}
    if wanted is bool:
        if "/" not in one.flag:
            given["is_flag"] = True
    else:
        given["type"] = _click_type(one, wanted)
    if typing.get_origin(wanted) is tuple:
        inner = typing.get_args(wanted)
        if facts.repeat:
            given["multiple"] = True
        elif inner[-1:] != (...,):
            given["nargs"] = len(inner)
    metavar = facts.metavar or ("" if facts.choices else {int: "N", float: "X"}.get(wanted, ""))
    if metavar:
        given["metavar"] = metavar
    if one.default is dataclasses.MISSING:
        given["required"] = not layered
    else:
        given |= _default(one, wanted, layered=layered)
    return Option([one.flag, one.name], **{**given, **changes})


def _default(one: Setting, wanted: Any, *, layered: bool) -> dict[str, Any]:
    """Returns click's default, and the words for it where click would not find them."""
    found: dict[str, Any] = {"default": None if layered else one.default}
    if one.facts.repeat and layered:
        found = {}
    if one.facts.shown:
        found["told"] = one.facts.shown
    elif one.default is None or one.default in ((), "") or (wanted is bool and "/" not in one.flag):
        pass
    elif not layered:
        found["show_default"] = True
    elif wanted is bool:
        word = one.flag.split("/")[0 if one.default else 1].removeprefix("--")
        found["told"] = f"the recipe's, else {word}"
    else:
        items = one.default if isinstance(one.default, tuple) else (one.default,)
        found["told"] = f"the recipe's, else {','.join(map(str, items))}"
    return found


def click_options(
    cls: type[Any],
    *,
    layered: bool = False,
    only: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    **changes: dict[str, Any],
) -> Callable[[Any], Any]:
    """Returns a decorator that gives a command the options of a dataclass, in its order.

    `only` and `without` choose by name; `changes` overrides click's own arguments of one option,
    e.g. out={"required": False}.
    """

    def decorate(command: Any) -> Any:
        chosen = [
            one
            for name, one in settings(cls).items()
            if one.facts.command_line and name not in without and (not only or name in only)
        ]
        made = [make_option(one, layered=layered, **changes.get(one.name, {})) for one in chosen]
        if isinstance(command, click.Command):
            command.params = made + command.params
            return command
        # click reads the decorators of a function from the last to the first.
        command.__click_params__ = [*getattr(command, "__click_params__", []), *reversed(made)]
        return command

    return decorate


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that the command line gave; defaults are left out."""
    context = click.get_current_context()
    told = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {
        name: value for name, value in values.items() if context.get_parameter_source(name) in told
    }


json_option = click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")

_printed = False


def print_json(value: Any) -> None:
    """Writes a command's result to stdout as JSON; an error after it stays on stderr alone."""
    global _printed
    print(json.dumps(value, indent=2, allow_nan=False))
    _printed = True


def tell(text: str) -> None:
    """Writes a line of progress to stderr."""
    say(text)


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
