"""Training pairs: an anomalous image blended from a normal and a synthetic one (RealNet, Eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sia_gen.core.pixels import perlin
from sia_gen.core.pixels.images import Array8, Mask

OPACITY_SDAS = (0.5, 1.0)
OPACITY_DTD = (0.2, 1.0)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A training example: image A and its normal image I, uint8 (H, W, 3), and mask M, bool (H, W).

    Outside its mask A equals I bit for bit; an empty mask is a normal example.
    """

    image: Array8
    normal: Array8
    mask: Mask


def blend(normal_HWC: Array8, synthetic_HWC: Array8, mask_HW: Mask, opacity: float) -> Array8:
    """Returns A = (1 - M) I + (1 - d) M I + d M P with opacity d, uint8; exact I outside M."""
    image = normal_HWC.copy()
    where = np.flatnonzero(mask_HW)
    channels = normal_HWC.shape[-1]
    under = normal_HWC.reshape(-1, channels)[where].astype(np.float32)
    over = synthetic_HWC.reshape(-1, channels)[where].astype(np.float32)
    over -= under
    over *= np.float32(opacity)
    over += under
    image.reshape(-1, channels)[where] = np.rint(over, out=over).astype(np.uint8)
    return image


def make_pair(
    normal_HWC: Array8,
    synthetic_HWC: Array8,
    foreground_HW: Mask,
    opacity: tuple[float, float],
    rng: np.random.Generator,
) -> Pair:
    """Returns a pair: a Perlin mask inside the foreground, an opacity uniform in its range."""
    mask = perlin.mask(normal_HWC.shape[0], rng) & foreground_HW
    strength = float(rng.uniform(*opacity))
    image = blend(normal_HWC, synthetic_HWC, mask, strength)
    return Pair(image=image, normal=normal_HWC, mask=mask)
