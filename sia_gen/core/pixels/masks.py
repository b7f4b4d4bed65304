"""One reader for masks: which pixels of a mask file belong to the defect.

two levels   0 and one other value: what is not 0, whatever the value (1, 255, 236, True)
classes      a few values that fill areas, or small numbers 1..n in a lossless file: above 0
scattered    values in between at edges or everywhere (JPEG, antialiased, blurred, blended): more
             than half of the maximum
alpha        a shape painted on a transparent ground, in any colour: what is opaque

A palette means its colours, unless none of them is black: then index 0 is the ground. The camera's
orientation is applied as to images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.decoding import decoding, open_image
from sia_gen.core.pixels.images import Array8, Mask

LOSSY = {"JPEG", "MPO"}
CLASSES = 63  # values up to it are class numbers in a file without losses
FEW = 30  # more values than this are no classes
AREA = 0.25  # share of a class's pixels whose eight neighbours are of the class too
FAINT = 1 / 16  # of the maximum: areas below it are traces of lossy coding


@dataclass(frozen=True, kw_only=True)
class MaskFile:
    """A mask as it was read: bool (H, W), and by which of the rules in the module's head."""

    mask: Mask
    rule: str
    levels: int  # how many values the file holds


def _counted(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns the values that occur, ascending, and of each the share of pixels in its areas."""
    levels, places = np.unique(values, return_inverse=True)
    places = places.reshape(values.shape)
    inner = places[1:-1, 1:-1]
    height, width = inner.shape
    filled = np.ones(inner.shape, dtype=np.bool_)
    for dy in range(3):
        for dx in range(3):
            filled &= places[dy : dy + height, dx : dx + width] == inner
    count = np.bincount(places.ravel(), minlength=len(levels))
    within = np.bincount(inner[filled].ravel(), minlength=len(levels))
    return levels, within / count


def _occurring(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the values that occur, ascending."""
    if values.dtype in (np.uint8, np.uint16):  # many times as fast as sorting
        return np.flatnonzero(np.bincount(values.ravel()))
    return np.unique(values)


def of_values(values: npt.NDArray[Any], lossy: bool, path: Path) -> MaskFile:
    """Returns the mask of one channel (H, W); UserError where its values say two things at once."""
    levels = _occurring(values)
    top, count = float(levels[-1]), len(levels)
    if float(levels[0]) < 0:
        raise UserError(f"mask {path} holds negative values: save it as black and white")
    if count <= 2 and (float(levels[0]) == 0 or count == 1):
        return MaskFile(mask=values > 0, rule="two levels", levels=count)
    if not lossy and values.dtype.kind in "uib" and top <= CLASSES:
        return MaskFile(mask=values > 0, rule="classes", levels=count)
    if min(values.shape) >= 3:
        levels, areas = _counted(values)
        between = (levels > 0) & (levels < top)
        solid = between & (areas >= AREA)
        if not lossy and count <= FEW and solid[between].all():
            return MaskFile(mask=values > 0, rule="classes", levels=count)
        lost = levels[solid & (levels > top * FAINT) & (levels <= top / 2)]
        if len(lost):
            raise UserError(
                f"mask {path} holds areas of value {lost[0]:g}, values up to {top:g} and {count}"
                " values in all: neither two levels nor classes; save it as black and white"
            )
    return MaskFile(mask=values > top / 2, rule="scattered", levels=count)


def _shape_of_alpha(rgba: npt.NDArray[np.uint8], lossy: bool, path: Path) -> MaskFile | None:
    """Returns the mask of an image whose transparency differs from pixel to pixel, else None."""
    alpha = rgba[..., 3]
    if not alpha.any():
        nothing = np.zeros(alpha.shape, dtype=np.bool_)
        return MaskFile(mask=nothing, rule="alpha", levels=1)
    if alpha.min() == alpha.max():
        return None
    shape = of_values(alpha, lossy, path)
    colour = rgba[..., :3].max(axis=-1)
    opaque = colour[alpha == alpha.max()]
    if opaque.min() == 0 and opaque.max() > 0:  # black and white under a transparent margin
        painted = of_values(np.where(shape.mask, colour, 0), lossy, path)
        return MaskFile(mask=painted.mask & shape.mask, rule="alpha", levels=painted.levels)
    return MaskFile(mask=shape.mask, rule="alpha", levels=shape.levels)


def read_mask_file(path: Path) -> MaskFile:
    """Returns a mask file as bool (H, W) and how its values were understood; see the module's head.

    UserError where the file cannot be read, or says two things at once.
    """
    with decoding(path):
        return _understood(open_image(path), path)


def _understood(opened: Image.Image, path: Path) -> MaskFile:
    lossy = opened.format in LOSSY
    image = ImageOps.exif_transpose(opened)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        found = _shape_of_alpha(np.asarray(image.convert("RGBA")), lossy, path)
        if found is not None:
            return found
    if image.mode == "P":
        colours = np.asarray(image.convert("RGB")).max(axis=-1)
        indices = np.asarray(image)
        plain = colours.min() == colours.max() or colours.min() > 0
        return of_values(indices if plain and indices.any() else colours, lossy, path)
    if len(image.getbands()) > 1:
        return of_values(np.asarray(image.convert("RGB")).max(axis=-1), lossy, path)
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(f"mask {path} holds NaN or infinite values: save it as black and white")
    return of_values(values.astype(np.uint8) if values.dtype == np.bool_ else values, lossy, path)


def fit_mask(mask: Mask, height: int, width: int) -> Mask:
    """Returns a mask at another size, by the nearest pixel."""
    if mask.shape == (height, width):
        return mask
    resized = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(resized.resize((width, height), Image.Resampling.NEAREST)) > 0


def read_mask(path: Path, size: int | None = None) -> Mask:
    """Returns a mask file as bool (H, W), resized to size x size by the nearest pixel if given."""
    mask = read_mask_file(path).mask
    return mask if size is None else fit_mask(mask, size, size)


def outlined(image_HW3: Array8, mask_HW: Mask, colour: tuple[int, int, int]) -> Array8:
    """Returns the image with the mask's border drawn: its pixels that touch one outside."""
    inner = mask_HW.copy()
    inner[1:] &= mask_HW[:-1]
    inner[:-1] &= mask_HW[1:]
    inner[:, 1:] &= mask_HW[:, :-1]
    inner[:, :-1] &= mask_HW[:, 1:]
    drawn = image_HW3.copy()
    drawn[mask_HW & ~inner] = colour
    return drawn
