"""cutpaste: a piece of the image, pasted elsewhere in it without blending (Li et al. 2021).

`normal` cuts a large rectangle, `scar` a thin rotated strip; `union` is either, half and half.
There is no code of the authors; the numbers are the paper's, and NSA's where the paper is silent.
The mask is what changed, not the rectangle: on a texture that repeats itself, a paste may change
nothing. Places are uniform among those that touch the region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from sia_gen.core.context import Context
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option
from sia_gen.core.pixels.changes import pair_of, require_range
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.pairs import Pair

VARIANTS = ("union", "normal", "scar")
PAPER_SIZE = 256  # pixels a side at which the scar's sizes are given
TRIES = 50

VERSION = 1  # raise it when the same options and generator would give other pairs


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """Shares of the image's area, ratios of sides, a scar's sides in pixels at 256 and degrees."""

    variant: str = option("union", choices=tuple(VARIANTS))
    area: tuple[float, float] = (0.02, 0.15)
    aspect: tuple[float, float] = (0.3, 3.3)
    scar_width: tuple[float, float] = (2.0, 16.0)
    scar_height: tuple[float, float] = (10.0, 25.0)
    rotation: tuple[float, float] = (-45.0, 45.0)
    jitter: float = option(0.1, low=0, high=0.5)

    def __post_init__(self) -> None:
        """Refuses values that cut no piece."""
        super().__post_init__()
        require_range("area", self.area, 0.0001, 1)
        require_range("scar_width", self.scar_width, 1, PAPER_SIZE)
        require_range("scar_height", self.scar_height, 1, PAPER_SIZE)
        require_range("rotation", self.rotation, -180, 180)
        if not 0 < self.aspect[0] <= 1 <= self.aspect[-1] or len(self.aspect) != 2:
            raise UserError(f"aspect {self.aspect}: expected a ratio up to 1 and one from 1 on")


def jittered(patch: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Returns a patch with brightness, contrast, saturation and hue each changed, in random order.

    Factors are uniform in [1 - amount, 1 + amount], the hue's turn in +-amount of the circle.
    """
    if amount == 0:
        return patch
    factors = rng.uniform(1 - amount, 1 + amount, 3)
    turn = round(float(rng.uniform(-amount, amount)) * 256)
    for change in rng.permutation(4):
        if change == 0:
            patch = ImageEnhance.Brightness(patch).enhance(float(factors[0]))
        elif change == 1:
            patch = ImageEnhance.Contrast(patch).enhance(float(factors[1]))
        elif change == 2:
            patch = ImageEnhance.Color(patch).enhance(float(factors[2]))
        else:
            hue, saturation, value = patch.convert("HSV").split()
            hue = hue.point([(level + turn) % 256 for level in range(256)])
            patch = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return patch


class CutPaste:
    """Cuts and pastes one piece a pair."""

    name = "cutpaste"

    def __init__(self, options: Options) -> None:
        self.options = options

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair with one pasted piece."""
        scar = self.options.variant == "scar"
        if self.options.variant == "union":
            scar = bool(rng.integers(2))
        height, width = self.scar_sides(normal, rng) if scar else self.sides(normal, rng)
        image = Image.fromarray(normal)
        top = int(rng.integers(normal.shape[0] - height + 1))
        left = int(rng.integers(normal.shape[1] - width + 1))
        patch = image.crop((left, top, left + width, top + height))
        patch = jittered(patch, self.options.jitter, rng)
        alpha = Image.new("L", patch.size, 255)
        if scar:
            angle = float(rng.uniform(*self.options.rotation))
            patch = patch.rotate(angle, Image.Resampling.BILINEAR, expand=True)
            alpha = alpha.rotate(angle, Image.Resampling.NEAREST, expand=True)
        image.paste(patch, self._place(patch.size, region, rng), alpha)
        return pair_of(normal, np.asarray(image), region)

    def sides(self, image_HWC: Array8, rng: np.random.Generator) -> tuple[int, int]:
        """Returns the height and width of a rectangle: its area and its ratio of sides are drawn.

        The ratio is below or above 1 half of the time each, uniform in its half (as NSA does).
        """
        height, width = image_HWC.shape[:2]
        area = float(rng.uniform(*self.options.area)) * height * width
        low, high = self.options.aspect
        ratio = float(rng.uniform(low, 1.0) if rng.integers(2) else rng.uniform(1.0, high))
        tall, wide = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        return min(max(tall, 1), height), min(max(wide, 1), width)

    def scar_sides(self, image_HWC: Array8, rng: np.random.Generator) -> tuple[int, int]:
        """Returns the height and width of a scar before its rotation."""
        scale = image_HWC.shape[0] / PAPER_SIZE
        wide = round(float(rng.uniform(*self.options.scar_width)) * scale)
        tall = round(float(rng.uniform(*self.options.scar_height)) * scale)
        return min(max(tall, 1), image_HWC.shape[0]), min(max(wide, 1), image_HWC.shape[1])

    @staticmethod
    def _place(size: tuple[int, int], region: Mask, rng: np.random.Generator) -> tuple[int, int]:
        """Returns (left, top) of a paste of this (width, height) that touches the region."""
        width, height = size
        left = top = 0
        for _ in range(TRIES):
            left = int(rng.integers(max(region.shape[1] - width, 0) + 1))
            top = int(rng.integers(max(region.shape[0] - height, 0) + 1))
            if region[top : top + height, left : left + width].any():
                break
        return left, top


def build(options: Options, context: Context) -> CutPaste:  # noqa: ARG001 - the image is enough
    """Returns the method."""
    return CutPaste(options)
