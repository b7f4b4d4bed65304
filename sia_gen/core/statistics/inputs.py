"""What every metric asks of its arrays before it counts anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sia_gen.core.errors import UserError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class UndefinedMetric(UserError):
    """The inputs are sound, but the metric has no value for them; the message says why."""


def real(values: npt.ArrayLike, name: str) -> Array:
    """Returns values as floats, float32 or float64; UserError for NaN, infinities, other types.

    float16 becomes float32, and integers become float64: the order of scores is kept exactly.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name}: expected numbers, found {array.dtype}")
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise UserError(
            f"{name}: {bad} of {array.size} values are NaN or infinite: mend the scores"
        )
    return array.astype(np.float32) if array.dtype == np.float16 else array


def binary(values: npt.ArrayLike, name: str) -> npt.NDArray[np.bool_]:
    """Returns labels or masks as bool; UserError for anything but two values, 0 and not 0."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{name}: NaN or infinite values")
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name}: expected 0 and 1, found {array.dtype}")
    truth = array != 0
    if array.dtype != np.bool_ and truth.any():
        # Two comparisons instead of a sort: masks have millions of pixels.
        other = array.max() if array.max() != 0 else array.min()
        if not ((array == other) | ~truth).all():
            found = np.unique(array)
            raise UserError(f"{name}: expected 0 and one other value, found {found[:5].tolist()}")
    return np.asarray(truth)


def same_shape(a: Array, b: Array, names: str) -> None:
    """Raises UserError where two arrays that belong together differ in shape."""
    if a.shape != b.shape:
        raise UserError(f"{names}: shapes {a.shape} and {b.shape} do not match")


def feature_pair(first: npt.ArrayLike, second: npt.ArrayLike, names: str) -> tuple[Floats, Floats]:
    """Returns two feature sets as float64 (N, D) and (M, D), or raises UserError."""
    x, y = (real(v, names).astype(np.float64) for v in (first, second))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UserError(f"{names}: expected (N, D) and (M, D), found {x.shape} and {y.shape}")
    return x, y
