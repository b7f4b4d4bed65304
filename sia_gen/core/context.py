"""What a synthesis method may know of the category that it makes anomalies for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sia_gen.core.data.dataset import Category, Kind
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.foreground import estimate
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.pairs import Pair


@dataclass(frozen=True, kw_only=True)
class Context:
    """A category at one resolution: its normal images by index, and shards made for it.

    `image(i)` returns normal image i as uint8 (R, R, 3) and `foreground(i)` where an anomaly may
    be placed on it, bool (R, R), for i in range(normals). Both must always return the same.
    """

    resolution: int
    category: str  # dataset/category
    kind: Kind
    normals: int
    image: Callable[[int], Array8]
    foreground: Callable[[int], Mask]
    shards: tuple[Path, ...] = ()
    # Normal image i at another side, where it can be read at one: (side, side, 3).
    image_at: Callable[[int, int], Array8] | None = None
    # The next streamed image, (resolution, resolution, 3), in place of shards.
    draw: Callable[[], Array8] | None = None
    # Which images of a store (a shard's by their keys, textures by their paths) may be used.
    takes: Callable[[str], bool] = lambda _: True

    def __post_init__(self) -> None:
        """Refuses a category without normal images."""
        if self.normals < 1:
            raise UserError(f"category {self.category} has no normal image to put anomalies on")


class Method(Protocol):
    """What a module of sia_gen/methods builds: normal image in, training pair out."""

    name: str

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns one pair: mask inside the region, perhaps empty; outside it A equals I."""
        ...


class ImagePool:
    """Images by index, uint8 (R, R, 3), decoded once and kept while they fit in memory."""

    def __init__(self, read: Callable[[int], Array8], count: int, memory: int = 1 << 30) -> None:
        self._read, self._count, self._room = read, count, memory
        self._kept: dict[int, Array8] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Array8:
        image = self._kept.get(index)
        if image is None:
            image = self._read(index)
            image.flags.writeable = False
            # Asked again, for another thread may have kept it meanwhile.
            if image.nbytes <= self._room and index not in self._kept:
                self._kept[index] = image
                self._room -= image.nbytes
        return image


def context_of(category: Category, resolution: int, shards: tuple[Path, ...] = ()) -> Context:
    """Returns the context of a category's training images, read and kept as they are asked for."""
    paths = category.train
    images = ImagePool(lambda i: category.read_image(paths[i], resolution), len(paths))
    regions: dict[int, Mask] = {}

    def foreground(index: int) -> Mask:
        if index not in regions:
            regions[index] = estimate(images[index], category.foreground, paths[index])
        return regions[index]

    return Context(
        resolution=resolution,
        category=category.key,
        kind=category.kind,
        normals=len(paths),
        image=images.__getitem__,
        foreground=foreground,
        shards=shards,
        image_at=lambda i, side: category.read_image(paths[i], side),
    )
