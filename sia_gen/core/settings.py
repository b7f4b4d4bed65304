"""`--set name=value`: text from a command line into the fields of a frozen Options class."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.store.documents import parse_yaml


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Returns `name=value` arguments as a dict; lists are written 0.2,1 and values read as YAML."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise UserError(f"--set {setting!r}: expected name=value, e.g. --set opacity=0.5,1")
        if name in found:
            raise UserError(f"--set {name} is given twice")
        try:
            parts = [parse_yaml(part) for part in text.split(",")]
        except ValueError as error:
            raise UserError(f"--set {setting!r}: the value cannot be read") from error
        found[name] = parts if "," in text else parts[0]
    return found


def make_options(cls: type[Any], values: dict[str, Any], where: str) -> Any:
    """Returns an Options object with these values; UserError for unknown names and wrong types."""
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{where}: option {name!r} is unknown.{near_names(name, known)}")
        given[name] = _as(value, hints[name], f"{where}: {name}")
    return cls(**given)


def from_json(cls: type[Any], value: Any, where: str) -> Any:
    """Returns the dataclass that a JSON object was made from; UserError where names are unknown or
    missing, or values are of another type, not finite, or no 64-bit number.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected named values, found {type(value).__name__}")
    needed = [field.name for field in dataclasses.fields(cls) if _needed(field)]
    missing = [name for name in needed if name not in value]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    for name, number in value.items():
        if isinstance(number, int | float) and not -(2**63) <= number < 2**63:
            raise UserError(f"{where}: {name} is {str(number)[:50]}: expected a 64-bit number")
    return make_options(cls, value, where)


def _needed(field: dataclasses.Field[Any]) -> bool:
    none = dataclasses.MISSING
    return field.default is none and field.default_factory is none


def _as(value: Any, wanted: Any, where: str) -> Any:
    if typing.get_origin(wanted) is tuple:
        parts = value if isinstance(value, list | tuple) else [value]
        inner = typing.get_args(wanted)[0]
        return tuple(_as(part, inner, where) for part in parts)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if wanted is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    name = getattr(wanted, "__name__", str(wanted))
    raise UserError(f"{where}: expected {name}, found {str(value)[:200]!r}")
