"""The names of sources: a synthesis method, a mixture such as `sdas:0.5,dtd:0.5`, or none."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from sia_gen import methods
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.options import from_values, plain
from sia_gen.core.plugins import load, names

NONE = "none"


def parse(text: str) -> dict[str, float]:
    """Returns the methods of a source with their weights, which sum to 1; {} for `none`."""
    if text == NONE:
        return {}
    known = [*names(methods), NONE]
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, colon, weight = part.strip().partition(":")
        name = name.replace("-", "_")  # as modules are called
        if name not in known or name == NONE:
            raise UserError(f"source {name!r} is unknown.{near_names(name, known)}")
        if name in weights:
            raise UserError(f"source {text!r} names {name} twice")
        try:
            weights[name] = float(weight) if colon else 1.0
        except ValueError as error:
            raise UserError(f"source {text!r}: the weight {weight!r} is no number") from error
    total = sum(weights.values())
    if not math.isfinite(total) or min(weights.values()) <= 0:
        raise UserError(f"source {text!r}: weights must be above 0, e.g. sdas:0.5,dtd:0.5")
    return {name: weight / total for name, weight in sorted(weights.items())}


def canonical(text: str) -> str:
    """Returns a source in its one spelling: methods sorted, weights that sum to 1."""
    weights = parse(text)
    if len(weights) < 2:
        return next(iter(weights), NONE)
    return ",".join(f"{name}:{weight:.6g}" for name, weight in weights.items())


def complete_options(text: str, given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns all options of a source's methods, as JSON; UserError for unknown ones."""
    used = parse(text)
    found = {}
    for name in {**used, **given}:
        if name not in used:
            raise UserError(f"option {name}.{next(iter(given[name]))}: source {text} has no {name}")
        cls = load(methods, name).Options
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in given.get(name, {}):
            if key not in fields:
                raise UserError(f"option {name}.{key} is unknown.{near_names(key, fields)}")
        options = from_values(cls, given.get(name, {}), f"method {name}")
        found[name] = plain(dataclasses.asdict(options))
    return found
