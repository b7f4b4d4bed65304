"""click's options of a dataclass's fields (core/options.py); the one that all commands have."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sia_gen.core import log
from sia_gen.core.errors import UserError
from sia_gen.core.options import Setting, coerced, option, settings, split_optional


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


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What every command takes beside its own options."""

    log_format: str = option(
        "text",
        "What is told on stderr: text, or a line of JSON with a timestamp each.",
        choices=log.FORMATS,
    )


def logged(command: click.Command) -> click.Command:
    """Returns the command with the options of `LogOptions`, obeyed before it runs."""
    if not isinstance(command, click.Group) and all(p.name != "log_format" for p in command.params):
        one = settings(LogOptions)["log_format"]
        command.params.append(
            make_option(one, expose_value=False, is_eager=True, callback=_use_format)
        )
    return command


def _use_format(ctx: click.Context, parameter: click.Parameter, value: str) -> None:
    del ctx, parameter
    log.use(value)
