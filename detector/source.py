"""What makes anomalous pairs out of normal images while a detector is trained.

`sdas` takes synthetic images from shards and blends them in through Perlin masks (RealNet, Eq. 3);
`noise` draws rectangles of plain Gaussian noise, the trivial rival any synthesis has to beat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from detector.normals import ImagePool
from sia_gen.core.errors import UserError
from sia_gen.core.images import Array8, Mask, resize_image
from sia_gen.core.pairs import OPACITY_SDAS, Pair, blend, make_pair
from sia_gen.core.shards import ShardReader, read_record


class Source(Protocol):
    """What makes anomalous pairs out of normal images."""

    name: str

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns one pair; its mask lies inside the region and may come out empty."""
        ...


class SdasSource:
    """Synthetic images of finished shards, blended in through Perlin masks (RealNet, Eq. 3)."""

    name = "sdas"

    def __init__(self, tars: list[Path], resolution: int) -> None:
        reader = ShardReader(tars)
        self._images = ImagePool(
            lambda i: resize_image(reader.image(i), resolution), len(reader), resolution
        )

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair with a random synthetic image and an opacity uniform in [0.5, 1]."""
        synthetic = self._images[int(rng.integers(len(self._images)))]
        return make_pair(normal, synthetic, region, OPACITY_SDAS, rng)


class NoiseSource:
    """Rectangles of plain Gaussian noise: no synthesis at all, the row to be compared with."""

    name = "noise"
    sides = (0.1, 0.4)  # of a rectangle, as shares of the image's side
    mean, deviation = 128.0, 50.0  # grey levels of the noise

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair with one noise rectangle and an opacity uniform in [0.5, 1]."""
        size = normal.shape[0]
        height, width = np.maximum(1, np.rint(rng.uniform(*self.sides, 2) * size)).astype(int)
        top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        mask = np.zeros((size, size), dtype=np.bool_)
        mask[top : top + height, left : left + width] = True
        mask &= region
        noise = rng.normal(self.mean, self.deviation, normal.shape)
        patch = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
        opacity = float(rng.uniform(*OPACITY_SDAS))
        return Pair(image=blend(normal, patch, mask, opacity), normal=normal, mask=mask)


def check_category(tars: list[Path], category: str, *, allow_foreign: bool) -> None:
    """Raises UserError where a shard was made for another category than the one to be trained."""
    for tar in tars:
        found = str((read_record(tar) or {}).get("category", "unknown"))
        if found != category and not allow_foreign:
            raise UserError(
                f"{tar} holds synthetic images of {found}, not of {category}: give that category's"
                " shards, or --allow-foreign-shards if this is what you want"
            )
