"""Options said once: a field of a frozen dataclass carries default, range, choices and help text.

Command lines (`core.commands.click_options`), recipes (`from_values`), Python callers (`Checked`)
and the command reference read the same fields, so they agree:

    @dataclass(frozen=True, kw_only=True)
    class Options(Checked):
        batch_size: int = option(16, "Images a step.", low=1, former=("batch",))
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.store.documents import parse_yaml

_KEY = "option"
_WORDS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a field says of itself beside its name, type and default."""

    help: str
    low: float | None = None  # smallest value that is allowed
    high: float | None = None  # largest value that is allowed
    above: float | None = None  # values must be larger than this
    below: float | None = None  # values must be smaller than this
    choices: tuple[str, ...] = ()
    flag: str = ""  # the command line's spelling where it is not --the-name
    former: tuple[str, ...] = ()  # names of earlier versions: read everywhere, shown nowhere
    metavar: str = ""
    shown: str = ""  # what the help calls the default where its value says little
    repeat: bool = False  # a list: the flag is given once for each item
    command_line: bool = True  # False: recipes and Python only


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One option of a class: its name, type, default and facts."""

    name: str
    type: Any
    default: Any  # dataclasses.MISSING where it must be given
    facts: Facts

    @property
    def flag(self) -> str:
        """Its spelling on the command line."""
        return self.facts.flag or "--" + self.name.replace("_", "-")


def option(default: Any = dataclasses.MISSING, help: str = "", **facts: Any) -> Any:
    """Returns a dataclass field with these facts (the fields of `Facts`); no default: required."""
    metadata = {_KEY: Facts(help=help, **facts)}
    if isinstance(default, list | dict | set):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def like(cls: type[Any], name: str) -> Any:
    """Returns a dataclass field with the default and the facts of another class's field."""
    known = next(field for field in dataclasses.fields(cls) if field.name == name)
    return dataclasses.field(default=known.default, metadata=known.metadata)


def settings(cls: type[Any]) -> dict[str, Setting]:
    """Returns the options of a dataclass by name, in order; plain fields have no facts to tell."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        facts = field.metadata.get(_KEY, Facts(help="", command_line=False))
        found[field.name] = Setting(
            name=field.name, type=hints[field.name], default=default, facts=facts
        )
    return found


def split_optional(wanted: Any) -> tuple[Any, bool]:
    """Returns the type without None, and whether None is allowed."""
    if typing.get_origin(wanted) in (types.UnionType, typing.Union):
        inner = [part for part in typing.get_args(wanted) if part is not type(None)]
        if len(inner) == 1:
            return inner[0], True
        raise TypeError(f"{wanted} is no option's type: one type, or that or None")
    return wanted, False


def coerced(value: Any, wanted: Any, where: str) -> Any:
    """Returns a value from YAML, JSON or a flag as the declared type; UserError where it is none.

    Lists may be written as text, 0.2,1; booleans also as on, off, yes and no.
    """
    wanted, may_be_none = split_optional(wanted)
    if value is None and may_be_none:
        return None
    if typing.get_origin(wanted) is tuple:
        return _coerced_list(value, typing.get_args(wanted), where)
    if wanted is bool and (isinstance(value, bool) or str(value).lower() in _WORDS):
        return value if isinstance(value, bool) else _WORDS[value.lower()]
    no_bool = not isinstance(value, bool)
    if wanted is str and no_bool and isinstance(value, str | int | float):
        return str(value)
    if wanted is Path and isinstance(value, str | Path):
        return Path(value)
    if wanted in {int, float} and no_bool:
        try:
            number = value if isinstance(value, int) else float(value)
            float(number)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where}: expected a number, found {value!r}") from error
        if wanted is float:
            return float(number)
        if isinstance(number, int) or number.is_integer():
            return int(number)
        raise UserError(f"{where}: expected a whole number, found {value!r}")
    origin = typing.get_origin(wanted) or wanted
    if no_bool and isinstance(origin, type) and isinstance(value, origin):
        return value
    raise UserError(f"{where}: expected {getattr(wanted, '__name__', wanted)}, found {value!r}")


def _coerced_list(value: Any, inner: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    items = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    items = [items] if isinstance(items, int | float) and not isinstance(items, bool) else items
    if not isinstance(items, list | tuple):
        raise UserError(f"{where}: expected a list, found {value!r}")
    items = [item for item in items if item != ""]
    if inner[-1:] == (...,):
        return tuple(coerced(item, inner[0], where) for item in items)
    if len(items) != len(inner):
        raise UserError(f"{where}: expected {len(inner)} values, found {value!r}")
    return tuple(coerced(item, one, where) for item, one in zip(items, inner, strict=True))


def plain(value: Any) -> Any:
    """Returns a value as JSON would give it back: tuples become lists, paths text."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def current_names(cls: type[Any], values: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns the values under today's names; UserError where one stands under two names."""
    names = {old: name for name, one in settings(cls).items() for old in one.facts.former}
    found: dict[str, Any] = {}
    for given, value in values.items():
        name = names.get(str(given).replace("-", "_"), str(given))
        if name in found:
            raise UserError(f"{where}: {name} is given twice, once under a former name")
        found[name] = value
    return found


def read_values(cls: type[Any], values: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns values by today's names as their types; UserError for unknown names, wrong types."""
    known = settings(cls)
    found: dict[str, Any] = {}
    for name, value in current_names(cls, values, where).items():
        if name not in known:
            raise UserError(f"{where}: option {name!r} is unknown.{near_names(name, list(known))}")
        found[name] = coerced(value, known[name].type, f"{where}: {name}")
    return found


def from_values(cls: type[Any], values: dict[str, Any], where: str) -> Any:
    """Returns an Options object of a recipe, a record or `--set`; UserError as `read_values`."""
    found = read_values(cls, values, where)
    absent = [
        name
        for name, one in settings(cls).items()
        if one.default is dataclasses.MISSING and name not in found
    ]
    if absent:
        raise UserError(f"{where}: {', '.join(absent)} must be given")
    return cls(**found)


def taken(cls: type[Any], values: dict[str, Any], **more: Any) -> Any:
    """Returns an Options object from a command's parameters, of which others may be someone's."""
    names = settings(cls).keys() & values.keys()
    return cls(**{name: values[name] for name in names}, **more)


def parse_settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """Returns `--set name=value` arguments as a dict of YAML values; 0.2,1 stays text.

    `on`, `off`, `yes` and `no` stay words (YAML 1.1 would make booleans of them): they name modes,
    and an option that is a boolean understands them too. So does 256:64, to YAML 1.1 a number of
    base 60.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise UserError(f"--set {text!r}: expected name=value, e.g. --set opacity=0.5,1")
        if name in found:
            raise UserError(f"--set {name} is given twice")
        try:
            word = value in {"on", "off", "yes", "no"} or re.fullmatch(r"[\d:]*:[\d:]*", value)
            found[name] = value if word else parse_yaml(value)
        except ValueError as error:
            raise UserError(f"--set {text!r}: the value cannot be read") from error
    return found


class OptionError(UserError):
    """A refused value, told by the option's name, or by its flag where the user typed that."""

    def __init__(self, one: Setting, found: str) -> None:
        super().__init__(f"{one.name} {found}")
        self.flag, self.found = one.flag, found

    def say_as_typed(self, words: list[str]) -> None:
        """Names the flag in place of the option where these words of a command line hold it."""
        if any(word.partition("=")[0] == self.flag for word in words):
            self.args = (f"{self.flag} {self.found}",)


def check(options: Any) -> None:
    """Refuses values outside of what their fields declare, by name: the law of __post_init__."""
    for name, one in settings(type(options)).items():
        value = getattr(options, name)
        wanted, may_be_none = split_optional(one.type)
        if value is None and may_be_none:
            continue
        for item in value if isinstance(value, tuple) else (value,):
            if found := _fault(item, wanted, one.facts):
                raise OptionError(one, found)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The base of options classes: values outside of what their fields declare are refused."""

    def __post_init__(self) -> None:
        """Refuses a value by the option's name; classes with laws of their own add them here."""
        check(self)


def _fault(value: Any, wanted: Any, facts: Facts) -> str:
    """Returns a value and what was expected in its place, or nothing where it is right."""
    if facts.choices and value not in facts.choices:
        near = near_names(str(value), list(facts.choices)).partition(" Known")[0]
        return f"{value!r}: expected one of {', '.join(facts.choices)}.{near}"
    numeric = wanted in {int, float} or typing.get_origin(wanted) is tuple
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"{value!r}: expected a number" if wanted in {int, float} else ""
    if wanted is int and not isinstance(value, int):
        return f"{value}: expected a whole number"
    if numeric and not math.isfinite(value):
        return f"{value}: expected a finite number"
    allowed = (
        (facts.low is None or value >= facts.low)
        and (facts.high is None or value <= facts.high)
        and (facts.above is None or value > facts.above)
        and (facts.below is None or value < facts.below)
    )
    return "" if allowed else f"{value}: expected {range_of(facts)}"


def range_of(facts: Facts) -> str:
    """Returns the range in words: `at least 1`, `above 0 and below 1`."""
    words = (
        ("at least", facts.low),
        ("above", facts.above),
        ("at most", facts.high),
        ("below", facts.below),
    )
    return " and ".join(f"{word} {bound}" for word, bound in words if bound is not None)
