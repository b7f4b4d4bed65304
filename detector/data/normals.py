"""A task's normal training images, in memory once decoded, with their foregrounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detector.frame import Frame
from sia_gen.core.context import ImagePool
from sia_gen.core.pixels import foreground
from sia_gen.core.pixels.images import Array8, Mask, read_image, read_size
from sia_gen.core.seeds import derive_seed

Parts = Sequence[tuple[tuple[Path, ...], str]]
Read = Callable[[Path, int | None], Array8]

MEMORY = 4 << 30  # bytes of decoded images kept; beyond, an image is decoded at each use


class NormalImages:
    """Normal images at one resolution. `parts` pairs each category's paths with its rule for where
    anomalies may lie; the images of the first category come first."""

    def __init__(
        self, parts: Parts, resolution: int, fit: str = "stretch", read: Read = read_image
    ) -> None:
        self.paths = tuple(path for paths, _ in parts for path in paths)
        self.resolution = resolution
        self._rules = tuple(rule for paths, rule in parts for _ in paths)
        self._part = tuple(i for i, (paths, _) in enumerate(parts) for _ in paths)
        self.frame = Frame(resolution=resolution, fit=fit)
        self._file_of = read
        self._images = ImagePool(
            lambda i: self.image_at(i, self.resolution), len(self.paths), MEMORY
        )
        self._foregrounds: dict[int, Mask] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, index: int) -> int:
        """Returns which category image `index` belongs to."""
        return self._part[index]

    def of_part(self, part: int) -> range:
        """Returns the indices of one category's images."""
        return range(self._part.index(part), self._part.index(part) + self._part.count(part))

    def image(self, index: int) -> Array8:
        """Returns image `index`, uint8 (R, R, 3)."""
        return self._images[index]

    def image_at(self, index: int, side: int) -> Array8:
        """Returns image `index` read at another resolution, uint8 (side, side, 3)."""
        if self.frame.fit == "stretch":
            return self._file_of(self.paths[index], side)
        frame = replace(self.frame, resolution=side)
        return frame.fitted(self._file_of(self.paths[index], None))

    def foreground(self, index: int) -> Mask:
        """Returns where an anomaly may be placed on image `index`, bool (R, R)."""
        mask = self._foregrounds.get(index)
        if mask is None:
            mask = self._estimated(index)
            self._foregrounds[index] = mask
        return mask

    def _estimated(self, index: int) -> Mask:
        rule, path = self._rules[index], self.paths[index]
        if self.frame.fit == "stretch":
            return foreground.estimate(self.image(index), rule, path)
        # A rule, or a mask of the user's, speaks of the whole image, not of what fills it up.
        whole = self._file_of(path, self.resolution)
        width, height = read_size(path)
        return self.frame.fitted_mask(foreground.estimate(whole, rule, path), (height, width))

    def stack(self, indices: npt.NDArray[np.intp]) -> Array8:
        """Returns several images, uint8 (B, R, R, 3)."""
        return np.stack([self.image(int(i)) for i in indices])


def is_held_out(path: Path, category: str, share: float) -> bool:
    """Returns whether a normal training image belongs to the held-out share, by its name's hash."""
    return derive_seed("holdout", category, path.name) / 2**63 < share
