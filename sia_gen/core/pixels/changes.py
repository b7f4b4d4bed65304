"""Masks of pasted anomalies: what visibly changed, not where a patch was meant to go."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.pairs import Pair

TOLERANCE = 1.0  # grey levels of mean absolute change; up to it nobody can tell the pixel
GRAIN = 5  # side of the median filter that removes single pixels, at 256 x 256


def changed(before_HWC: Array8, after_HWC: Array8) -> Mask:
    """Returns where two images differ by more than one grey level in the mean of the channels.

    A median (5 x 5 at 256 pixels a side) then removes the grain: a pasted patch that agrees with
    what it covers by chance at single pixels is still one patch (NSA's binary label).
    """
    change = np.abs(before_HWC.astype(np.int16) - after_HWC).sum(axis=-1)
    mask = change > TOLERANCE * before_HWC.shape[-1]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return mask
    # The median is only worth computing where something changed.
    box = (
        slice(max(0, rows[0] - GRAIN), rows[-1] + GRAIN + 1),
        slice(max(0, columns[0] - GRAIN), columns[-1] + GRAIN + 1),
    )
    mask[box] = majority(mask[box], GRAIN, len(mask))
    return mask


def majority(mask_HW: Mask, side: int, size: int) -> Mask:
    """Returns the median over squares, whose side is given for images of 256 pixels a side."""
    side = 2 * round((side // 2) * size / 256) + 1
    if side == 1:
        return mask_HW
    return ndimage.uniform_filter(mask_HW.astype(np.float32), side, mode="nearest") > 0.5


def pair_of(normal_HWC: Array8, pasted_HWC: Array8, region_HW: Mask) -> Pair:
    """Returns the pair of a pasted image: its mask is what changed inside the region.

    Pixels outside the mask are put back, so that the pair equals its normal image there.
    """
    mask = changed(normal_HWC, pasted_HWC) & region_HW
    image = normal_HWC.copy()
    image[mask] = pasted_HWC[mask]
    return Pair(image=image, normal=normal_HWC, mask=mask)


def require_range(name: str, value: tuple[float, ...], low: float, high: float) -> None:
    """Raises UserError unless value is an ordered pair of numbers in [low, high]."""
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        shown = " ".join(f"{number:g}" for number in value)
        message = f"{name} {shown}: expected two numbers, the lower first, in {low:g} to {high:g}"
        raise UserError(message)
