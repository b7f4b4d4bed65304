"""AUROC, AP, F1-max and PRO of many draws of images at once, from counts by falling score.

Row b holds how many normal examples and how many hits each of K bins has in draw b. The values are
those of sia_gen/core/statistics/ranking.py with the bins' members as ties.
"""

from __future__ import annotations

import numpy as np

from sia_gen.core.statistics.inputs import Floats
from sia_gen.core.statistics.ranking import Ranking


def area(normal_BK: Floats, hits_BK: Floats, limit: float = 1.0) -> Floats:
    """Returns each row's area under hits over false positives up to a rate, divided by it."""
    zero = np.zeros((len(normal_BK), 1))
    x = np.concatenate([zero, np.cumsum(normal_BK, axis=1)], axis=1)
    y = np.concatenate([zero, np.cumsum(hits_BK, axis=1)], axis=1)
    x, y = x / x[:, -1:], y / y[:, -1:]
    run, rise = np.diff(x, axis=1), np.diff(y, axis=1)
    # The share of each step that lies below the limit; the curve is straight within a step.
    room = np.clip(limit - x[:, :-1], 0.0, run)
    part = np.divide(room, run, out=np.zeros_like(run), where=run > 0)
    return np.asarray((room * (y[:, :-1] + 0.5 * rise * part)).sum(axis=1) / limit)


def average_precision(normal_BK: Floats, hits_BK: Floats) -> Floats:
    """Returns each row's average precision."""
    found, false = np.cumsum(hits_BK, axis=1), np.cumsum(normal_BK, axis=1)
    precision = np.divide(found, found + false, out=np.zeros_like(found), where=found > 0)
    return np.asarray((hits_BK * precision).sum(axis=1) / found[:, -1])


def f1_max(normal_BK: Floats, hits_BK: Floats) -> Floats:
    """Returns each row's F1-max."""
    found, false = np.cumsum(hits_BK, axis=1), np.cumsum(normal_BK, axis=1)
    return np.asarray((2.0 * found / (found[:, -1:] + found + false)).max(axis=1))


def ranking_of(normal_K: Floats, hits_K: Floats) -> Ranking:
    """Returns one draw's ranking, for a metric that has no formula for all draws at once."""
    held = np.flatnonzero(hits_K)[::-1]  # bins fall, thresholds rise
    above = np.cumsum(normal_K) - normal_K
    places = len(hits_K) - 1 - held
    return Ranking.of_counts(
        places, hits_K[held], above[held], normal_K[held], round(float(normal_K.sum()))
    )
