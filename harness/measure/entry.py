"""A record's entry of one metric: the value and the metric's version, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from harness.metrics import Metric
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import UndefinedMetric


def value_of(metric: Metric, compute: Callable[[], float], n: Sequence[int] = ()) -> Any:
    """Returns the entry of what `compute` gives: value and version, or null and the reason.

    UserError (NaN, shapes) is not caught: such input is refused, not recorded.
    """
    try:
        value = float(compute())
    except UndefinedMetric as error:
        return undefined(metric, str(error), n=n)
    if not math.isfinite(value):
        raise UserError(f"{metric.name} came out as {value}: the inputs are out of range")
    return _entry(metric, n) | {"value": value}


def undefined(metric: Metric, reason: str, *, n: Sequence[int] = ()) -> Any:
    """Returns the entry of a metric that has no value, with the reason."""
    return _entry(metric, n) | {"value": None, "reason": reason}


def _entry(metric: Metric, n: Sequence[int]) -> dict[str, Any]:
    entry = {
        "metric": metric.name,
        "version": metric.version,
        "higher_is_better": metric.higher_is_better,
    }
    return entry | ({"n": list(n)} if n else {})
