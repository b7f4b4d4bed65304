"""Image F1-max: the best F1 that any one threshold on the image scores reaches.

The threshold is chosen on the test set itself, so the value is an upper bound of what any rule for
a threshold could give, and is to be read as one.
"""

from __future__ import annotations

import numpy.typing as npt

from harness.metrics._inputs import binary, real, same_shape
from harness.metrics._ranking import rank

NEEDS = ("scores", "labels")
HIGHER_IS_BETTER = True
VERSION = 1


def compute(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns F1-max, 0..1, of scores (N,) by labels (N,); anomalous is the positive class."""
    values, truth = real(scores, "image scores"), binary(labels, "image labels")
    same_shape(values, truth, "image scores and labels")
    return rank(values, truth).f1_max()
