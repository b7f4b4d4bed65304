"""Normal crops at full resolution: the training images of a detector that looks at tiles.

Each image gives a number of crops at places drawn once from the seed, so that a crop is a normal
image like any other: it has an index, is seen once an epoch, and its features may be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.Image import Resampling

from detector.data.normals import MEMORY, NormalImages, Parts, Read
from detector.frame import Frame
from detector.tiles import cut
from sia_gen.core.context import ImagePool
from sia_gen.core.pixels import foreground
from sia_gen.core.pixels.images import Array8, Mask, read_image, read_size, resize_image
from sia_gen.core.seeds import generator

if TYPE_CHECKING:
    from detector.options import TrainOptions

OFTEN = 2  # crops hold so many times an image's pixels together
MOST = 8192  # crops of all images together, but at least one of each
ANYWHERE = 4  # every fourth crop lies anywhere, the others hold some of the foreground
TRIES = 10
SHARE = 0.1  # of a crop that the foreground covers, where it is to hold some
LOOK = 256  # side at which an image's foreground is estimated


class NormalCrops(NormalImages):
    """Crops of `side` x `side` pixels; `parts` as in NormalImages, indices of one image adjoin."""

    def __init__(self, parts: Parts, side: int, seed: int, read: Read = read_image) -> None:
        super().__init__(parts, side, read=read)
        self._seed = seed
        files = self.paths
        self._whole = ImagePool(lambda i: read(files[i], None), len(files), MEMORY)
        self._looks: dict[int, Mask] = {}
        self._sizes = [read_size(path) for path in files]
        each = max(1, MOST // max(1, len(files)))
        counts = [min(each, max(1, round(OFTEN * w * h / side**2))) for w, h in self._sizes]
        self._file = tuple(i for i, n in enumerate(counts) for _ in range(n))
        self._number = tuple(k for n in counts for k in range(n))
        self._part = tuple(self._part[i] for i in self._file)
        self._places: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._file)

    def _look(self, file: int) -> Mask:
        """Returns a file's foreground at 256 x 256, as it lies on the whole image."""
        mask = self._looks.get(file)
        if mask is None:
            small = resize_image(self._whole[file], LOOK)
            mask = foreground.estimate(small, self._rules[file], self.paths[file])
            self._looks[file] = mask
        return mask

    def _region(self, file: int, top: int, left: int) -> Mask:
        """Returns the foreground of a crop, bool (S, S)."""
        look, side = self._look(file), self.resolution
        width, height = self._sizes[file]
        down, across = LOOK / height, LOOK / width
        box = left * across, top * down, (left + side) * across, (top + side) * down
        if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
            image = Image.fromarray(look.astype(np.uint8))
            scaled = image.resize((side, side), Resampling.NEAREST, box=box)
            return np.asarray(scaled) > 0
        whole = Image.fromarray(look.astype(np.uint8)).resize((width, height), Resampling.NEAREST)
        return cut(np.asarray(whole), top, left, side) > 0

    def place(self, index: int) -> tuple[int, int]:
        """Returns the top and left edge of crop `index`; negative where its image is smaller."""
        found = self._places.get(index)
        if found is None:
            found = self._places[index] = self._drawn(self._file[index], self._number[index])
        return found

    def _drawn(self, file: int, number: int) -> tuple[int, int]:
        side, (width, height) = self.resolution, self._sizes[file]
        rng = generator(self._seed, "crop", self.paths[file].name, number)
        anywhere = number % ANYWHERE == ANYWHERE - 1
        chosen = (0, 0)
        for _ in range(TRIES):
            top, left = (
                int(rng.integers(n - side + 1)) if n >= side else -((side - n) // 2)
                for n in (height, width)
            )
            chosen = top, left
            if anywhere or self._region(file, top, left).mean() >= SHARE:
                break
        return chosen

    def image(self, index: int) -> Array8:
        """Returns crop `index`, uint8 (S, S, 3)."""
        top, left = self.place(index)
        crop = cut(self._whole[self._file[index]], top, left, self.resolution)
        crop.flags.writeable = False
        return crop

    def foreground(self, index: int) -> Mask:
        """Returns where an anomaly may be placed on crop `index`: anywhere where it holds no part.

        bool (S, S).
        """
        region = self._region(self._file[index], *self.place(index))
        return region if region.any() else np.ones_like(region)

    def stack(self, indices: npt.NDArray[np.intp]) -> Array8:
        """Returns several crops, uint8 (B, S, S, 3)."""
        return np.stack([self.image(int(i)) for i in indices])


def normal_images(parts: Parts, options: TrainOptions, read: Read = read_image) -> NormalImages:
    """Returns what a training sees of its normal images: whole ones, or crops for tiles."""
    frame = Frame.of(options)
    if not frame.tiled:
        return NormalImages(parts, frame.resolution, frame.fit, read)
    return NormalCrops(parts, frame.resolution, options.seed, read)
