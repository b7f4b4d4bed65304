"""The greedy k-centre coreset: a few points that leave none of the others far away.

Each next member is the point that lies farthest from those chosen so far (Gonzalez 1985; the
memory of PatchCore, Roth et al. 2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CANDIDATES = 2048  # farthest points among which members are chosen before all are looked at
ROWS = 1 << 15  # points compared at a time

Points = npt.NDArray[Any]


def squared_distances(x_NC: Points, y_MC: Points) -> Points:
    """Returns squared Euclidean distances (N, M), by one matrix product; never below 0."""
    found = x_NC @ y_MC.T
    found *= -2
    found += np.square(x_NC).sum(1, keepdims=True)
    found += np.square(y_MC).sum(1)
    return np.maximum(found, 0, out=found)


def greedy_coreset(
    x_NC: Points, count: int, first: int | None = None, candidates: int = CANDIDATES
) -> npt.NDArray[np.intp]:
    """Returns the indices of a greedy k-centre coreset in the order of choice, (count,).

    The first member is given, or the point nearest to the mean. Choosing one member at a time needs
    a pass over all points for each. Here several are chosen between two passes: distances to the
    nearest member only shrink, so a candidate that is still farther than every point outside the
    candidates was, is the farthest of all. The result is that of the plain way, up to rounding.
    """
    total = len(x_NC)
    count = min(count, total)
    if first is None:
        first = int(np.square(x_NC - x_NC.mean(0)).sum(1).argmin())
    chosen = [first]
    nearest = _to_members(x_NC, x_NC[[first]])
    nearest[first] = -1
    while len(chosen) < count:
        outside = -1.0
        index = np.arange(total)
        if total > candidates:
            order = np.argpartition(nearest, total - candidates - 1)
            index, outside = order[-candidates:], float(nearest[order[-candidates - 1]])
        local = nearest[index]
        among = squared_distances(x_NC[index], x_NC[index])
        fresh: list[int] = []
        while len(chosen) + len(fresh) < count:
            place = int(local.argmax())
            if fresh and not local[place] > outside:
                break
            fresh.append(place)
            local = np.minimum(local, among[place])
            local[place] = -1
        members = index[fresh]
        nearest = np.minimum(nearest, _to_members(x_NC, x_NC[members]))
        nearest[members] = -1
        chosen += members.tolist()
    return np.array(chosen, dtype=np.intp)


def _to_members(x_NC: Points, members_KC: Points) -> Points:
    starts = range(0, len(x_NC), ROWS)
    parts = [squared_distances(x_NC[i : i + ROWS], members_KC).min(1) for i in starts]
    return np.concatenate(parts)
