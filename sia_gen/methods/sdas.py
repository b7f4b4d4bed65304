"""sdas: synthetic images of finished shards, blended in through Perlin masks (RealNet, Eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sia_gen.core.context import Context, ImagePool
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.changes import require_range
from sia_gen.core.pixels.images import Array8, Mask, resize_image
from sia_gen.core.pixels.pairs import OPACITY_SDAS, Pair, make_pair
from sia_gen.core.store.shards import MASK, ShardReader

MEMORY = 4 << 30  # bytes of decoded images kept; beyond, an image is decoded at each use

VERSION = 1  # raise it when the same options and generator would give other pairs
SHARDS = True  # takes images from shards


@dataclass(frozen=True, kw_only=True)
class Options:
    """Opacity of the synthetic image under the mask, uniform in this range."""

    opacity: tuple[float, float] = OPACITY_SDAS

    def __post_init__(self) -> None:
        """Refuses an opacity outside 0 to 1."""
        require_range("opacity", self.opacity, 0, 1)


class Sdas:
    """Draws a synthetic image, a mask and an opacity for each pair."""

    name = "sdas"

    def __init__(self, options: Options, context: Context) -> None:
        self.options = options
        self._draw = context.draw
        if self._draw is not None:
            return
        reader = ShardReader(context.shards)
        size = context.resolution
        # What has a mask is a pair of another method.
        taken = [
            i
            for i, member in enumerate(reader.members)
            if MASK not in member.extras and context.takes(member.key)
        ]
        if not taken:
            raise UserError(f"none of the {len(reader)} synthetic images may be used: give more")
        self._images = ImagePool(
            lambda i: resize_image(reader.image(taken[i]), size), len(taken), MEMORY
        )

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair whose anomaly is part of a random synthetic image."""
        if self._draw is not None:
            synthetic = self._draw()
        else:
            synthetic = self._images[int(rng.integers(len(self._images)))]
        return make_pair(normal, synthetic, region, self.options.opacity, rng)


def build(options: Options, context: Context) -> Sdas:
    """Returns the method; UserError where there are no shards to take images from."""
    if not context.shards and context.draw is None:
        message = (
            f"sdas needs shards of {context.category}: make them with `sia-gen run` and give"
            " --shards"
        )
        raise UserError(message)
    return Sdas(options, context)
