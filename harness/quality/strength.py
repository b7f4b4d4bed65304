"""The strength curve: quality of synthetic images by the strength s that they were made with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.metrics import kid

BINS = 4
SMALLEST = 4  # images a bin: fewer say nothing


def bins_of(strengths: list[float | None], bins: int = BINS) -> list[npt.NDArray[np.intp]]:
    """Returns the images of each bin, by rising strength, as equal in number as they can be.

    One bin where all strengths are equal; none where an image does not state its strength.
    """
    if not strengths or any(s is None for s in strengths):
        return []
    values = np.array(strengths, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    if values.min() == values.max():
        return [order]
    return np.array_split(order, max(1, min(bins, len(values) // SMALLEST)))


def curve(
    strengths: list[float | None],
    synthetic: npt.NDArray[Any],
    anomalous: npt.NDArray[Any],
    held_out: npt.NDArray[Any],
    network: str,
) -> list[dict[str, Any]]:
    """Returns KID to real anomalies and to held-out normals for each bin of strength.

    KID and not FID: bins are small, and only KID is unbiased whatever their size.
    """
    found = []
    for members in bins_of(strengths):
        values = [float(strengths[i] or 0.0) for i in members]
        point: dict[str, Any] = {
            "network": network,
            "low": min(values),
            "high": max(values),
            "mean": float(np.mean(values)),
            "n": len(values),
        }
        for name, real in (("kid", anomalous), ("kid_to_normal", held_out)):
            enough = min(len(members), len(real)) >= 2
            point[name] = kid.compute(synthetic[members], real) if enough else None
        found.append(point)
    return found
