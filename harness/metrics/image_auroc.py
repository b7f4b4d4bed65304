"""Image AUROC: the chance that an anomalous image scores above a normal one, ties counting half."""

from __future__ import annotations

import numpy.typing as npt

from harness.metrics._inputs import binary, real, same_shape
from harness.metrics._ranking import rank

NEEDS = ("scores", "labels")
HIGHER_IS_BETTER = True
VERSION = 1


def compute(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the area under the ROC curve, 0..1, of scores (N,) by labels (N,).

    A detector worse than chance stays below 0.5 (the RealNet authors' code flips it).
    """
    values, truth = real(scores, "image scores"), binary(labels, "image labels")
    same_shape(values, truth, "image scores and labels")
    return rank(values, truth).area()
