"""Option values: from YAML, JSON or flags to the types that a frozen Options declares, and back."""

from __future__ import annotations

import types
import typing
from typing import Any

from sia_gen.core.errors import UserError


def types_of(cls: type[Any]) -> dict[str, Any]:
    """Returns the declared types of an Options class."""
    return typing.get_type_hints(cls)


def plain(value: Any) -> Any:
    """Returns a value as JSON would give it back: tuples become lists."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, tuple | list) else value


def coerced(value: Any, wanted: Any, where: str) -> Any:
    """Returns a value from YAML or a flag as the type that the option declares."""
    origin = typing.get_origin(wanted)
    if origin is tuple:
        items = [part for part in value.split(",") if part] if isinstance(value, str) else value
        items = [items] if isinstance(items, int | float) else items
        if not isinstance(items, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r}")
        inner = typing.get_args(wanted)[0]
        return tuple(coerced(item, inner, where) for item in items)
    if isinstance(origin, types.UnionType):
        raise TypeError(f"{where}: unions are not options")
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is bool and value in {"on", "off", "yes", "no"}:
        return value in {"on", "yes"}
    if wanted is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if wanted in {int, float} and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: expected a number, found {value!r}") from error
        if wanted is float:
            return number
        if number.is_integer():
            return int(number)
    name = getattr(wanted, "__name__", str(wanted))
    raise UserError(f"{where}: expected {name}, found {value!r}")


def model_options(cls: type[Any], values: dict[str, Any]) -> Any:
    """Returns a model's or method's Options from their JSON form (lists become tuples)."""
    hints = types_of(cls)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise UserError(f"model options {', '.join(unknown)} are of another version")
    return cls(**{n: coerced(v, hints[n], n) for n, v in values.items()})
