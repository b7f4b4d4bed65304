"""A task's normal training images, in memory once decoded, with their foregrounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sia_gen.core import foreground
from sia_gen.core.images import Array8, Mask, read_image
from sia_gen.core.seeds import derive_seed

MEMORY_BYTES = 4 << 30  # decoded images kept in memory; beyond, images are decoded at each use


class ImagePool:
    """Images by index, uint8 (R, R, 3), decoded once and kept while they fit in memory."""

    def __init__(self, read: Callable[[int], Array8], count: int, resolution: int) -> None:
        self._read = read
        self._count = count
        self._kept: dict[int, Array8] = {}
        self._room = MEMORY_BYTES // (resolution * resolution * 3)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Array8:
        image = self._kept.get(index)
        if image is None:
            image = self._read(index)
            if len(self._kept) < self._room:
                self._kept[index] = image
        return image


class NormalImages:
    """Normal images at one resolution. `parts` pairs each category's paths with its rule for where
    anomalies may lie; the images of the first category come first."""

    def __init__(self, parts: Sequence[tuple[tuple[Path, ...], str]], resolution: int) -> None:
        self.paths = tuple(path for paths, _ in parts for path in paths)
        self.resolution = resolution
        self._rules = tuple(rule for paths, rule in parts for _ in paths)
        self._part = tuple(i for i, (paths, _) in enumerate(parts) for _ in paths)
        paths = self.paths
        self._images = ImagePool(lambda i: read_image(paths[i], resolution), len(paths), resolution)
        self._foregrounds: dict[int, Mask] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, index: int) -> int:
        """Returns which category image `index` belongs to."""
        return self._part[index]

    def image(self, index: int) -> Array8:
        """Returns image `index`, uint8 (R, R, 3)."""
        return self._images[index]

    def foreground(self, index: int) -> Mask:
        """Returns where an anomaly may be placed on image `index`, bool (R, R)."""
        mask = self._foregrounds.get(index)
        if mask is None:
            mask = foreground.estimate(self.image(index), self._rules[index])
            self._foregrounds[index] = mask
        return mask

    def stack(self, indices: npt.NDArray[np.intp]) -> Array8:
        """Returns several images, uint8 (B, R, R, 3)."""
        return np.stack([self.image(int(i)) for i in indices])


def is_held_out(path: Path, category: str, share: float) -> bool:
    """Returns whether a normal training image belongs to the held-out share, by its name's hash."""
    return derive_seed("holdout", category, path.name) / 2**63 < share
