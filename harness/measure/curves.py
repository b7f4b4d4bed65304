"""Curves for a page: a ranking's corners, thinned to what a small picture can show."""

from __future__ import annotations

import numpy as np

from sia_gen.core.statistics.inputs import Floats
from sia_gen.core.statistics.ranking import Ranking

POINTS = 64


def thinned(x: Floats, y: Floats, limit: float = 1.0, points: int = POINTS) -> list[list[float]]:
    """Returns [[x...], [y...]] of a rising curve up to x = limit, at most `points` of them.

    The points kept lie evenly along the curve, so that steep parts keep theirs; 4 digits.
    """
    inside = x <= limit
    end = float(np.interp(limit, x, y))
    x, y = np.append(x[inside], limit), np.append(y[inside], end)
    way = np.concatenate([[0.0], np.cumsum(np.diff(x) / limit + np.abs(np.diff(y)))])
    picked = np.searchsorted(way, np.linspace(0.0, way[-1], points))
    picked = np.unique(np.clip(np.append(picked, [0, len(x) - 1]), 0, len(x) - 1))
    return [np.round(x[picked], 4).tolist(), np.round(y[picked], 4).tolist()]


def curve(ranking: Ranking, limit: float = 1.0) -> list[list[float]]:
    """Returns the thinned curve of hits over false positives: ROC, or PRO's up to its limit."""
    return thinned(*ranking.curve(), limit)
