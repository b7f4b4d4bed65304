"""One measured value: a metric of the folder applied to arrays, or the reason why it has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness import metrics
from harness.metrics._inputs import UndefinedMetric
from sia_gen.core.errors import UserError
from sia_gen.core.plugins import load


def value_of(metric: str, arrays: Sequence[Any], *, n: Sequence[int] = (), **options: Any) -> Any:
    """Returns a record's entry for a metric: value and version, or null and the reason.

    UserError (NaN, shapes) is not caught: such input is refused, not recorded.
    """
    module = load(metrics, metric)
    try:
        value = float(module.compute(*arrays, **options))
    except UndefinedMetric as error:
        return undefined(metric, str(error), n=n)
    return entry_of(metric, value, n=n)


def entry_of(metric: str, value: float, *, n: Sequence[int] = ()) -> Any:
    """Returns a record's entry for a value that was computed already."""
    if not math.isfinite(value):
        raise UserError(f"{metric} came out as {value}: the inputs are out of range")
    return _entry(metric, n) | {"value": float(value)}


def undefined(metric: str, reason: str, *, n: Sequence[int] = ()) -> Any:
    """Returns a record's entry for a metric that has no value, with the reason."""
    return _entry(metric, n) | {"value": None, "reason": reason}


def _entry(metric: str, n: Sequence[int]) -> dict[str, Any]:
    module = load(metrics, metric)
    entry = {
        "metric": metric,
        "version": module.VERSION,
        "higher_is_better": module.HIGHER_IS_BETTER,
    }
    return entry | ({"n": list(n)} if n else {})
