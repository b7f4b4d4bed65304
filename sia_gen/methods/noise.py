"""noise: rectangles of plain Gaussian noise, the trivial rival that any synthesis has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sia_gen.core.context import Context
from sia_gen.core.options import Checked, option
from sia_gen.core.pixels.changes import require_range
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.pairs import OPACITY_SDAS, Pair, blend

VERSION = 1  # raise it when the same options and generator would give other pairs


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """Sides are shares of the image's side, mean and deviation grey levels."""

    sides: tuple[float, float] = (0.1, 0.4)
    mean: float = option(128.0, low=0, high=255)
    deviation: float = option(50.0, low=0, high=255)
    opacity: tuple[float, float] = OPACITY_SDAS

    def __post_init__(self) -> None:
        """Refuses values that draw no rectangle."""
        super().__post_init__()
        require_range("sides", self.sides, 0, 1)
        require_range("opacity", self.opacity, 0, 1)


class Noise:
    """Draws one rectangle a pair."""

    name = "noise"

    def __init__(self, options: Options) -> None:
        self.options = options

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair with one noise rectangle inside the region."""
        size, options = normal.shape[0], self.options
        height, width = np.maximum(1, np.rint(rng.uniform(*options.sides, 2) * size)).astype(int)
        top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        mask = np.zeros((size, size), dtype=np.bool_)
        mask[top : top + height, left : left + width] = True
        mask &= region
        noise = rng.normal(options.mean, options.deviation, normal.shape)
        patch = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
        image = blend(normal, patch, mask, float(rng.uniform(*options.opacity)))
        return Pair(image=image, normal=normal, mask=mask)


def build(options: Options, context: Context) -> Noise:  # noqa: ARG001 - it needs to know nothing
    """Returns the method."""
    return Noise(options)
