"""Image average precision."""

from __future__ import annotations

import numpy.typing as npt

from harness.metrics._inputs import binary, real, same_shape
from harness.metrics._ranking import rank

NEEDS = ("scores", "labels")
HIGHER_IS_BETTER = True
VERSION = 1


def compute(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the average precision, 0..1, of scores (N,) by labels (N,).

    The sum of precision times the step in recall over the distinct scores: tied images enter
    together, so that their order in the file does not matter.
    """
    values, truth = real(scores, "image scores"), binary(labels, "image labels")
    same_shape(values, truth, "image scores and labels")
    return rank(values, truth).average_precision()
