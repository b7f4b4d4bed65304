"""Score maps and masks to a ranking of pixels, one image at a time: maps may be memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import Array, Floats, UndefinedMetric, binary, real
from sia_gen.core.statistics.ragged import Ragged
from sia_gen.core.statistics.ranking import Ranking

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int64)
BLOCK = 1 << 20  # pixels counted together: a block costs one sort


def images(score_maps: Any, masks: Any) -> Iterator[tuple[Array, npt.NDArray[np.bool_]]]:
    for i, (map_HW, mask_HW) in enumerate(zip(score_maps, masks, strict=True)):
        yield real(map_HW, f"score map {i}"), binary(mask_HW, f"mask {i}")


def as_stack(maps: Any) -> Any:
    """Returns maps as an array, or as they are where they differ in size."""
    return maps if isinstance(maps, Ragged) else np.asanyarray(maps)


def checked(score_maps: Any, masks: Any) -> tuple[Any, Any]:
    maps, truth = as_stack(score_maps), as_stack(masks)
    if maps.ndim != 3 or maps.shape != truth.shape:
        raise UserError(
            f"score maps {maps.shape} and masks {truth.shape}: expected the same (N, H, W) twice"
        )
    if not maps.size:
        raise UndefinedMetric("there is no pixel: the value is undefined")
    return maps, truth


def region_weights(mask_HW: npt.NDArray[np.bool_]) -> tuple[Floats, int]:
    """Returns each defect pixel's weight, 1 / area of its 8-connected region, and the regions."""
    from scipy import ndimage  # here: what only reads tables should not wait for it

    labels, regions = ndimage.label(mask_HW, EIGHT_NEIGHBOURS)
    areas = np.bincount(labels.ravel(), minlength=regions + 1)
    return 1.0 / areas[labels[mask_HW]], int(regions)


def rank_both(score_maps: Any, masks: Any) -> tuple[Ranking, Ranking]:
    """Returns the ranking of all pixels of maps (N, H, W) by masks (N, H, W), weighted twice.

    In the first every defect pixel weighs one; in the second every 8-connected region does,
    whatever its area: PRO's weights. The memory needed is that of the defect pixels and of one
    block, not that of all maps.
    """
    maps, truth = checked(score_maps, masks)
    positives: list[Array] = []
    weights: list[Floats] = []
    for map_HW, mask_HW in images(maps, truth):
        if mask_HW.any():
            positives.append(map_HW[mask_HW])
            weights.append(region_weights(mask_HW)[0])
    if not positives:
        raise UndefinedMetric("no mask holds a defect pixel: the value is undefined")
    scores = np.concatenate(positives)
    ranking = Ranking(scores)
    places = np.searchsorted(ranking.thresholds, scores)
    shares = np.concatenate(weights)
    by_region: Floats = np.bincount(places, shares, len(ranking.thresholds)).astype(np.float64)
    # Each block costs a look-up of every threshold, so a block is at least as large as those.
    enough, waiting, held = max(BLOCK, len(ranking.thresholds)), list[Array](), 0
    for map_HW, mask_HW in images(maps, truth):
        waiting.append(map_HW[~mask_HW])
        held += len(waiting[-1])
        if held >= enough:
            ranking.add_negatives(np.concatenate(waiting))
            waiting, held = [], 0
    if held:
        ranking.add_negatives(np.concatenate(waiting))
    return ranking, ranking.weighted(by_region)
