"""nsa: patches of another normal image, blended in seamlessly (Schlueter et al. 2022).

A patch is cut out of another image of the category, resized, moved to a random place and blended by
Poisson editing: with mixed gradients on textures, with the patch's own on objects. Categories of
MVTec-AD have the authors' parameters; for all others they are chosen by the kind of category, and
the foreground tells the object from the ground it lies on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from sia_gen.core.context import Context
from sia_gen.core.options import Checked, option
from sia_gen.core.pixels import poisson
from sia_gen.core.pixels.changes import majority, pair_of
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.pairs import Pair

GAMMA_SHAPE, GAMMA_SCALE, GAMMA_START = 2.0, 0.05, 0.03  # half-widths, as shares of the side
TRIES = 200  # for a patch on the object, and for a place for it
MIN_AREA = 50  # pixels at 256 x 256: a smaller patch is not blended
MARGIN = 3  # pixels at 256 x 256 round a patch that keep the gradients of what they cover
CLONES = ("auto", "normal", "mixed")

VERSION = 1  # raise it when the same options and generator would give other pairs


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """A category's row. `heights` and `widths` bound the half-widths, as shares of the side.

    `least_object` is the share of a patch that must show the object, `least_overlap` the share of
    that object which must land on the object. `ground` is (brightness, threshold): the object is
    what differs from the brightness by more than the threshold; None takes the foreground.
    """

    heights: tuple[float, float] = (0.03, 0.4)
    widths: tuple[float, float] = (0.03, 0.4)
    patches: int = 3
    least_object: float | None = None
    least_overlap: float = 0.25
    ground: tuple[float, float] | None = None
    mixed: bool = False
    resize: tuple[float, float] = (0.7, 1.3)


_TEXTURE = Parameters(patches=4, mixed=True, resize=(0.5, 2.0))
_LIGHT, _DARK = (200.0, 60.0), (20.0, 20.0)
TABLE: dict[str, Parameters] = {
    "bottle": Parameters(least_object=0.7, ground=_LIGHT),
    "cable": Parameters(heights=(0.05, 0.4), widths=(0.05, 0.4)),
    "capsule": Parameters(heights=(0.03, 0.15), least_object=0.7, ground=_LIGHT),
    "carpet": _TEXTURE,
    "grid": _TEXTURE,
    "hazelnut": Parameters(
        heights=(0.03, 0.35), widths=(0.03, 0.35), least_object=0.7, ground=_DARK
    ),
    "leather": _TEXTURE,
    "metal_nut": Parameters(least_object=0.5, ground=_DARK),
    "pill": Parameters(heights=(0.03, 0.2), least_object=0.7, ground=_DARK),
    "screw": Parameters(
        heights=(0.03, 0.12), widths=(0.03, 0.12), patches=4, least_object=0.5, ground=_LIGHT
    ),
    "tile": _TEXTURE,
    "toothbrush": Parameters(widths=(0.03, 0.2), least_object=0.25, ground=_DARK),
    "transistor": Parameters(),
    "wood": _TEXTURE,
    "zipper": Parameters(widths=(0.03, 0.2), patches=4, least_object=0.7, ground=_LIGHT),
}
# For categories without a row: what most objects of the table share.
_OBJECT = Parameters(least_object=0.5)


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """`parameters` names a row of the table, `texture` or `object`; `auto` goes by the category."""

    parameters: str = option("auto", choices=("auto", "texture", "object", *TABLE))
    clone: str = option("auto", choices=tuple(CLONES))
    patches: int = option(0, low=0, high=100)  # 0 takes the row's


def choose_parameters(options: Options, context: Context) -> Parameters:
    """Returns the row that the options name, or the category's."""
    dataset, _, category = context.category.partition("/")
    name = options.parameters
    if name == "auto" and dataset == "mvtec-ad" and category in TABLE:
        name = category
    if name == "auto":
        name = context.kind
    if name == "unknown":
        # An image that is foreground all over shows no object on a ground: a texture.
        some = range(0, context.normals, max(1, context.normals // 8))
        name = "texture" if np.mean([context.foreground(i).all() for i in some]) > 0.5 else "object"
    row = {"texture": _TEXTURE, "object": _OBJECT, **TABLE}[name]
    if options.patches:
        row = replace(row, patches=options.patches)
    return row if options.clone == "auto" else replace(row, mixed=options.clone == "mixed")


def _off_ground(image_HWC: Array8, ground: tuple[float, float]) -> Mask:
    """Returns what differs from the ground's brightness, without grain (median of 7 x 7)."""
    brightness, threshold = ground
    differs = np.abs(image_HWC.mean(axis=-1, dtype=np.float32) - brightness) > threshold
    return majority(differs, 7, len(differs))


class Nsa:
    """Blends one patch or more into each pair."""

    name = "nsa"

    def __init__(self, parameters: Parameters, context: Context) -> None:
        self.parameters = parameters
        self._context = context
        self._objects: dict[int, Mask] = {}

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair with patches of one other normal image."""
        index = int(rng.integers(self._context.normals))
        source = self._context.image(index)
        if self._context.normals > 1 and np.array_equal(source, normal):
            index = (index + 1) % self._context.normals
            source = self._context.image(index)
        source_object, target_object = self._object(index), self._target(normal, region)
        image, placed = normal, np.zeros(region.shape, dtype=np.bool_)
        for patch in range(self.parameters.patches):
            if patch == 0 or rng.integers(2):
                image = self._paste(image, source, source_object, target_object, placed, rng)
        return pair_of(normal, image, region & placed)

    def _object(self, index: int) -> Mask | None:
        if self.parameters.least_object is None:
            return None
        if index not in self._objects:
            ground = self.parameters.ground
            self._objects[index] = (
                _off_ground(self._context.image(index), ground)
                if ground
                else self._context.foreground(index)
            )
        return self._objects[index]

    def _target(self, normal: Array8, region: Mask) -> Mask | None:
        if self.parameters.least_object is None:
            return None
        ground = self.parameters.ground
        return _off_ground(normal, ground) if ground else region

    def bounds(self, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Returns the bounds of half-widths in pixels, [[low, high] of height, of width]."""
        row = self.parameters
        shares = np.array([row.heights, row.widths]) * np.array(shape[:2])[:, None]
        return np.maximum(np.rint(shares), 1).astype(np.intp)

    def half_widths(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
        """Returns a patch's half height and half width: 0.03 + Gamma(2, 0.05) of the side."""
        bounds = self.bounds(shape)
        drawn = (GAMMA_START + rng.gamma(GAMMA_SHAPE, GAMMA_SCALE, 2)) * np.array(shape[:2])
        height, width = np.clip(drawn.astype(np.intp), bounds[:, 0], bounds[:, 1])
        return int(height), int(width)

    def resized(
        self, height: int, width: int, shape: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[int, int]:
        """Returns a patch's new height and width: by a factor from N(1, 0.5), clipped.

        The sides keep their ratio and end within the bounds, here taken as those of whole sides,
        as in the authors' code.
        """
        low, high = self.parameters.resize
        factor = float(np.clip(rng.normal(1, 0.5), low, high))
        (least_height, most_height), (least_width, most_width) = self.bounds(shape).tolist()
        tall = min(max(factor * height, least_height), most_height)
        wide = min(max(int(tall / height * width), least_width), most_width)
        return min(max(int(wide / width * height), least_height), most_height), wide

    def _paste(
        self,
        image: Array8,
        source: Array8,
        source_object: Mask | None,
        target_object: Mask | None,
        placed: Mask,
        rng: np.random.Generator,
    ) -> Array8:
        """Returns the image with one patch more, marked in `placed`; itself where none fits."""
        row, side = self.parameters, source.shape
        least = row.least_object or 0.0
        half_height, half_width = self.half_widths(side, rng)
        bounds = self.bounds(side)
        for _ in range(TRIES):
            y = int(rng.integers(bounds[0, 0], max(side[0] - bounds[0, 0], bounds[0, 0] + 1)))
            x = int(rng.integers(bounds[1, 0], max(side[1] - bounds[1, 0], bounds[1, 0] + 1)))
            top, left = max(y - half_height, 0), max(x - half_width, 0)
            cut = (slice(top, y + half_height), slice(left, x + half_width))
            if source_object is None or source_object[cut].mean() > least:
                break
        else:
            return image
        patch = source[cut]
        height, width = self.resized(patch.shape[0], patch.shape[1], side, rng)
        patch = _scaled(patch, height, width)
        part = None
        if source_object is not None:
            part = _scaled_mask(source_object[cut], height, width)
        free = (side[0] - height - 2, side[1] - width - 2)
        if min(free) < 1 or (height - 2) * (width - 2) < MIN_AREA * (side[0] / 256) ** 2:
            return image
        for _ in range(TRIES):
            top, left = int(rng.integers(1, free[0] + 1)), int(rng.integers(1, free[1] + 1))
            box = (slice(top, top + height), slice(left, left + width))
            if part is None or target_object is None:
                covered = np.ones((height, width), dtype=np.bool_)
                break
            within = target_object[box]
            shown = int(part.sum())
            enough = shown > least * part.size
            if enough and (within & part).sum() > row.least_overlap * shown:
                covered = within | part
                break
        else:
            return image
        whole = np.ones((height, width), np.bool_)
        margin = max(1, round(MARGIN * side[0] / 256))
        blended = poisson.clone(image[box], patch, whole, mixed=row.mixed, margin=margin)
        result = image.copy()
        result[box] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
        placed[box] |= covered
        return result


def _scaled(image_HWC: Array8, height: int, width: int) -> Array8:
    """Returns an image at another size, bilinear."""
    return np.asarray(Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BILINEAR))


def _scaled_mask(mask_HW: Mask, height: int, width: int) -> Mask:
    """Returns a mask at another size, nearest."""
    flags = Image.fromarray(mask_HW.astype(np.uint8))
    return np.asarray(flags.resize((width, height), Image.Resampling.NEAREST)) > 0


def build(options: Options, context: Context) -> Nsa:
    """Returns the method with the category's parameters."""
    return Nsa(choose_parameters(options, context), context)
