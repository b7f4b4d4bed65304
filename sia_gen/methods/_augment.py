"""The ten augmentations of DRAEM's textures, on uint8 RGB, each a function of a generator.

Written to the formulas of imgaug 0.4, which they replace: that package no longer works with the
current numpy. Tone curves are tables of 256 entries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from sia_gen.core.pixels.images import Array8

_LEVELS = np.arange(256, dtype=np.float64)


def _table(image_HWC: Array8, curves: npt.NDArray[np.float64]) -> Array8:
    """Returns the image through tone curves, (256,) for all channels or (3, 256)."""
    table = np.clip(np.rint(curves), 0, 255).astype(np.uint8)
    if table.ndim == 1:
        return table[image_HWC]
    result = Image.fromarray(image_HWC).point(table.ravel().tolist())
    return np.asarray(result)


def gamma(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns 255 (x / 255)^g with g uniform in [0.5, 2], drawn for each channel."""
    exponents = rng.uniform(0.5, 2.0, 3)
    return _table(image_HWC, 255.0 * (_LEVELS / 255.0) ** exponents[:, None])


def brightness(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns the image with its brightness times 0.8 .. 1.2 and plus -30 .. 30, in either order.

    The brightness is a channel of a colour space that is drawn too: mostly a luma, at times the
    value of HSV. Colours stay.
    """
    factor, offset = rng.uniform(0.8, 1.2), int(rng.integers(-30, 31))
    curve = factor * (_LEVELS + offset) if rng.integers(2) else factor * _LEVELS + offset
    luma = rng.uniform() < 2 / 3
    picture = Image.fromarray(image_HWC)
    channels = list(picture.convert("YCbCr" if luma else "HSV").split())
    table = np.clip(np.rint(curve), 0, 255).astype(int).tolist()
    place = 0 if luma else 2
    channels[place] = channels[place].point(table)
    return np.asarray(Image.merge("YCbCr" if luma else "HSV", channels).convert("RGB"))


def sharpness(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns the image blurred or sharpened: a factor uniform in [0, 2], 1 leaves it alone."""
    factor = float(rng.uniform(0.0, 2.0))
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(image_HWC)).enhance(factor))


def hue_saturation(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns the image with -50 .. 50 of 255 added to hue (round the circle) and to saturation."""
    hue, saturation = (int(value) for value in rng.integers(-50, 51, 2))
    hsv = Image.fromarray(image_HWC).convert("HSV")
    levels = np.arange(256)
    table = np.concatenate(
        [(levels + hue) % 256, np.clip(levels + saturation, 0, 255), levels]
    ).tolist()
    return np.asarray(hsv.point(table).convert("RGB"))


def solarize(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns the image with values above a threshold in [32, 128] inverted, half of the time."""
    inverted, threshold = rng.uniform() < 0.5, int(rng.integers(32, 129))
    if not inverted:
        return image_HWC
    return _table(image_HWC, np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS))


def posterize(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns the image with 1 to 8 bits a channel."""
    bits = int(rng.integers(1, 9))
    return np.asarray(ImageOps.posterize(Image.fromarray(image_HWC), bits))


def invert(image_HWC: Array8, rng: np.random.Generator) -> Array8:  # noqa: ARG001 - nothing to draw
    """Returns the negative."""
    return 255 - image_HWC


def autocontrast(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns each channel stretched to the full range, without 0 to 20 % of its darkest and
    brightest pixels."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image_HWC), int(rng.integers(0, 21))))


def equalize(image_HWC: Array8, rng: np.random.Generator) -> Array8:  # noqa: ARG001 - as above
    """Returns the image with each channel's histogram made even."""
    return np.asarray(ImageOps.equalize(Image.fromarray(image_HWC)))


def rotate(image_HWC: Array8, rng: np.random.Generator) -> Array8:
    """Returns the image rotated by an angle uniform in [-45, 45] degrees; the corners are black."""
    angle = float(rng.uniform(-45, 45))
    turned = Image.fromarray(image_HWC).rotate(angle, Image.Resampling.BILINEAR)
    return np.asarray(turned)


AUGMENTATIONS: tuple[Callable[[Array8, np.random.Generator], Array8], ...] = (
    gamma,
    brightness,
    sharpness,
    hue_saturation,
    solarize,
    posterize,
    invert,
    autocontrast,
    equalize,
    rotate,
)
NAMES = tuple(function.__name__ for function in AUGMENTATIONS)


def augment(image_HWC: Array8, count: int, rng: np.random.Generator) -> Array8:
    """Returns the image after `count` different augmentations, in the order they are drawn."""
    for index in rng.choice(len(AUGMENTATIONS), count, replace=False):
        image_HWC = AUGMENTATIONS[index](image_HWC, rng)
    return image_HWC
