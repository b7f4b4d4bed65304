"""How an image becomes what the network sees, recorded in the checkpoint and used by every command.

stretch    the whole image at R x R, as the papers do; small things vanish, shapes change
pad        the whole image with its longer side at R, the rest filled with its mirror image
tiles      squares of R x R pixels of the image as it is, overlapping, blended
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.Image import Resampling

from detector.words import parse_tiles
from sia_gen.core.pixels.images import Array8, Mask, resize_image

if TYPE_CHECKING:
    from detector.options import TrainOptions

Map = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The network's side in pixels, how whole images fit it, and the overlap of tiles.

    `tiled` images are seen at their own scale, others whole.
    """

    resolution: int
    fit: str = "stretch"
    tiled: bool = False
    overlap: int = 0

    @classmethod
    def of(cls, options: TrainOptions) -> Frame:
        """Returns the frame that a training's options ask for."""
        side, overlap = parse_tiles(options.tiles)
        fit, tiled = options.fit, bool(side)
        return cls(resolution=options.resolution, fit=fit, tiled=tiled, overlap=overlap)

    @property
    def own_size(self) -> bool:
        """Whether scores are of maps at the image's own size, not of R x R ones."""
        return self.tiled or self.fit == "pad"

    def inner(self, size_HW: tuple[int, int]) -> tuple[int, int]:
        """Returns the height and width that a whole image of this size has inside R x R."""
        if self.fit == "stretch":
            return self.resolution, self.resolution
        scale = self.resolution / max(size_HW)
        height, width = (min(self.resolution, max(1, round(n * scale))) for n in size_HW)
        return height, width

    def fitted(self, image_HW3: Array8) -> Array8:
        """Returns a whole image as uint8 (R, R, 3)."""
        if self.fit == "stretch":
            return resize_image(image_HW3, self.resolution)
        height, width = self.inner(image_HW3.shape[:2])
        small = Image.fromarray(image_HW3)
        if small.size != (width, height):
            small = small.resize((width, height), Resampling.BILINEAR)
        return np.asarray(self._filled(np.array(small, dtype=np.uint8)), dtype=np.uint8)

    def fitted_mask(self, mask: Mask, size_HW: tuple[int, int]) -> Mask:
        """Returns a mask of a whole image of this size, of any own resolution, as bool (R, R)."""
        height, width = self.inner(size_HW)
        scaled = Image.fromarray(mask.astype(np.uint8)).resize((width, height), Resampling.NEAREST)
        return np.asarray(self._filled(np.asarray(scaled) > 0), dtype=np.bool_)

    def _filled(self, part: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Returns an array that begins with `part` and is its mirror image beyond, (R, R, ...)."""
        sides = [(0, self.resolution - part.shape[axis]) for axis in (0, 1)]
        return np.pad(part, [*sides, *[(0, 0)] * (part.ndim - 2)], mode="symmetric")

    def unfilled(self, map_RR: Map, size_HW: tuple[int, int]) -> Map:
        """Returns the part of a network's map that shows the image."""
        height, width = self.inner(size_HW)
        return map_RR[:height, :width]


def to_size(map_HW: Map, size_HW: tuple[int, int]) -> Map:
    """Returns a map at another size, bilinear, float32 (H, W)."""
    if map_HW.shape == tuple(size_HW):
        return map_HW
    image = Image.fromarray(np.ascontiguousarray(map_HW, dtype=np.float32))
    resized = image.resize((size_HW[1], size_HW[0]), Resampling.BILINEAR)
    return np.array(resized, dtype=np.float32)
