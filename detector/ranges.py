"""The range that a detector reads files of more than 8 bits with: that of its training."""

from __future__ import annotations

from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.ranges import ValueRange, checked


def trained_range(facts: dict[str, Any], key: str | None = None) -> ValueRange | None:
    """Returns the range that a checkpoint's facts name, or None for images of 8 bits.

    `key` names one of its categories; without it all must agree, or a UserError names them.
    """
    known = facts.get("inputs", {}).get("value_ranges", {})
    if key is not None:
        return checked(known.get(key))
    found = sorted({tuple(value) for value in known.values()})
    if len(found) > 1:
        text = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in known.items())
        raise UserError(
            f"the detector was trained on categories of several value ranges ({text}): an image"
            " without a category cannot be read; train one detector for each"
        )
    return checked(found[0]) if found else None
