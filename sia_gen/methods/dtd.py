"""dtd: textures of a folder, augmented and blended in through Perlin masks (DRAEM; RealNet).

Every image below the folder is a texture, whatever the folders between are called. The paper's
textures are the Describable Textures Dataset, but any folder of photographs will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sia_gen.core.context import Context, ImagePool
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option
from sia_gen.core.pixels.changes import require_range
from sia_gen.core.pixels.images import Array8, Mask, is_image_name, read_image
from sia_gen.core.pixels.pairs import OPACITY_DTD, Pair, make_pair
from sia_gen.core.store.walk import walk
from sia_gen.methods._augment import NAMES, augment

MEMORY = 1 << 30  # bytes of decoded textures kept: all 5,640 of DTD at 256 x 256

VERSION = 1  # raise it when the same options and generator would give other pairs


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """The texture folder, how many of the ten augmentations are drawn, and the opacity."""

    textures: str = ""
    augmentations: int = option(3, low=0, high=len(NAMES))
    opacity: tuple[float, float] = OPACITY_DTD

    def __post_init__(self) -> None:
        """Refuses counts and opacities that cannot be."""
        super().__post_init__()
        require_range("opacity", self.opacity, 0, 1)


class Dtd:
    """Draws a texture, its augmentations, a mask and an opacity for each pair."""

    name = "dtd"

    def __init__(self, options: Options, textures: tuple[Path, ...], resolution: int) -> None:
        self.options = options
        self.textures = textures
        self._images = ImagePool(
            lambda i: read_image(textures[i], resolution), len(textures), MEMORY
        )

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair whose anomaly is part of an augmented texture."""
        texture = self._images[int(rng.integers(len(self._images)))]
        texture = augment(texture, self.options.augmentations, rng)
        return make_pair(normal, texture, region, self.options.opacity, rng)


def find_textures(folder: Path) -> tuple[Path, ...]:
    """Returns the images below a folder, sorted by their path inside it; UserError for none."""
    if not folder.is_dir():
        raise UserError(f"textures {folder} is no folder: give the folder of DTD's images")
    found = walk(folder, is_image_name)
    if not found:
        raise UserError(f"textures {folder} holds no image")
    return tuple(found)


def build(options: Options, context: Context) -> Dtd:
    """Returns the method; UserError where there is no texture folder."""
    if not options.textures:
        raise UserError("dtd needs a folder of textures: give --textures DIR (DTD's images)")
    folder = Path(options.textures)
    textures = find_textures(folder)
    taken = tuple(p for p in textures if context.takes(p.relative_to(folder).as_posix()))
    if not taken:
        raise UserError(f"none of the {len(textures)} textures may be used: give more")
    return Dtd(options, taken, context.resolution)
