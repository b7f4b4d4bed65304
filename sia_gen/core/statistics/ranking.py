"""Where the positives stand among the negatives: the one count that AUROC, AP and PRO share.

A ranking holds the distinct scores of the positives and, for each, how many negatives lie above
and how many not below. That is all that any of these metrics needs, so negatives stream through
in blocks and are not kept: exact with ties, mergeable by addition, and as small as the positives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import Array, Floats, UndefinedMetric


class Ranking:
    """Counts of negatives around each distinct positive score; `weights` default to one each."""

    def __init__(self, positives: Array, weights: Floats | None = None) -> None:
        self.thresholds, inverse = np.unique(positives, return_inverse=True)
        counted = np.bincount(inverse.ravel(), weights, minlength=len(self.thresholds))
        self.weights: Floats = counted.astype(np.float64)
        self.above = np.zeros(len(self.thresholds), dtype=np.int64)
        self.not_below = np.zeros(len(self.thresholds), dtype=np.int64)
        self.negatives = 0

    @classmethod
    def of_counts(
        cls, thresholds: Array, weights: Floats, above: Array, ties: Array, negatives: int
    ) -> Ranking:
        """Returns the ranking that counts kept elsewhere amount to, thresholds rising."""
        made = cls.__new__(cls)
        made.thresholds, made.negatives = thresholds, negatives
        made.weights = np.asarray(weights, dtype=np.float64)
        made.above, made.not_below = above.astype(np.int64), (above + ties).astype(np.int64)
        return made

    def weighted(self, weights: Floats) -> Ranking:
        """Returns the same ranking with other weights, one for each threshold."""
        ties = self.not_below - self.above
        return Ranking.of_counts(self.thresholds, weights, self.above, ties, self.negatives)

    def add_negatives(self, scores: Array) -> None:
        """Counts one block of negative scores."""
        block = np.sort(scores, axis=None)
        self.above += len(block) - np.searchsorted(block, self.thresholds, side="right")
        self.not_below += len(block) - np.searchsorted(block, self.thresholds, side="left")
        self.negatives += len(block)

    def merge(self, other: Ranking) -> None:
        """Adds the negatives that another ranking of the same positives has counted."""
        if not np.array_equal(self.thresholds, other.thresholds):
            raise UserError("rankings of different positives cannot be merged")
        self.above += other.above
        self.not_below += other.not_below
        self.negatives += other.negatives

    def check(self) -> None:
        """Raises UndefinedMetric where a class is missing."""
        if not len(self.thresholds):
            raise UndefinedMetric("there is no anomalous example: the value is undefined")
        if not self.negatives:
            raise UndefinedMetric("there is no normal example: the value is undefined")

    def curve(self) -> tuple[Floats, Floats]:
        """Returns the curve's corners: false-positive rate and share of positives, both 0..1.

        Scores fall from the left. At each distinct positive score the curve arrives level (only
        negatives passed) and leaves along a straight line to where its ties are counted too.
        """
        self.check()
        hits = np.cumsum(self.weights[::-1])
        hits = hits / hits[-1]
        x = np.zeros(2 * len(hits) + 2)
        y = np.zeros_like(x)
        x[1:-1:2], x[2:-1:2], x[-1] = self.above[::-1], self.not_below[::-1], self.negatives
        y[3:-1:2], y[2:-1:2], y[-1] = hits[:-1], hits, 1.0
        return x / self.negatives, y

    def area(self, limit: float = 1.0) -> float:
        """Returns the area under the curve up to false-positive rate `limit`, divided by it.

        The last point is interpolated at exactly the limit.
        """
        if not 0.0 < limit <= 1.0:
            raise UserError(f"the false-positive limit must be in (0, 1], found {limit}")
        x, y = self.curve()
        beyond = int(np.searchsorted(x, limit, side="right"))
        if beyond < len(x):
            run, rise = x[beyond] - x[beyond - 1], y[beyond] - y[beyond - 1]
            end = y[beyond - 1] + rise * (limit - x[beyond - 1]) / run
            x = np.append(x[:beyond], limit)
            y = np.append(y[:beyond], end)
        total = float((np.diff(x) * (y[1:] + y[:-1])).sum()) / 2.0 / limit
        return min(max(total, 0.0), 1.0)  # rounding only: the curve lies within the unit square

    def average_precision(self) -> float:
        """Returns the step-wise area under precision and recall (no interpolation), 0..1."""
        self.check()
        weights = self.weights[::-1]
        hits = np.cumsum(weights)
        precision = hits / (hits + self.not_below[::-1])
        return float((weights * precision).sum() / hits[-1])

    def f1_max(self) -> float:
        """Returns the largest F1 that any threshold reaches, 0..1: the harmonic mean of precision
        and recall. It is always reached at the score of a positive."""
        self.check()
        hits = np.cumsum(self.weights[::-1])
        return float((2.0 * hits / (hits[-1] + hits + self.not_below[::-1])).max())


def rank(scores: Array, labels: npt.NDArray[np.bool_]) -> Ranking:
    """Returns the ranking of scores by their labels."""
    ranking = Ranking(scores[labels])
    ranking.add_negatives(scores[~labels])
    return ranking
