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
    raise UserError(f"{where}: expected {name}, found {value!r}")
