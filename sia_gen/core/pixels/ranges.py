"""Files of more than 8 bits: the values they hold, and the range that becomes 0 to 255.

A camera of 10 or 12 bits fills a sixteenth of a 16-bit file, a thermal camera a hundredth of it
anywhere: a range that is wrong leaves a handful of grey levels. One range serves a whole category,
measured on its normal images or given; never a range for each image, which would make a bright
defect darken the part around it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.decoding import open_image, open_limited

ValueRange = tuple[float, float]

SAMPLE = 64  # files that a measurement reads, spread evenly
LOOKED = 8  # headers that tell whether files have more than 8 bits
TAILS = (0.1, 99.9)  # percentiles of an image: dead and hot pixels lie beyond
BITS = (8, 10, 12, 14, 16)  # depths that cameras have
FLOATS = (1.0, 255.0, 65535.0)  # upper ends that floats are stored with
USED = 1 / 8  # of a depth: a smaller span is no picture of that depth, but a window in it
LEAST = 32  # values: fewer are a blank frame, whose own span says nothing
FAR = 1 / 4  # of the file's own range: a smaller one is told
_SWAPPED = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A category's range, what its files hold (percentiles over all) and on how many it rests."""

    low: float
    high: float
    used_low: float
    used_high: float
    files: int
    full: float | None  # the largest value of the file's type; None for floats

    @property
    def value_range(self) -> ValueRange:
        """The range (low, high) that becomes 0 to 255."""
        return self.low, self.high

    @property
    def narrow(self) -> bool:
        """Whether the used values fill little of what the file type holds."""
        return self.full is not None and self.high - self.low < self.full * FAR


def _rawmode(tile: Any) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def deep_channels(image: Image.Image) -> bool:
    """Returns whether an unread image has several channels of 16 bits, of which Pillow reads 8."""
    tiles: Sequence[Any] = getattr(image, "tile", None) or ()
    return bool(tiles) and _rawmode(tiles[0]).startswith(("RGB;16", "RGBA;16"))


def is_wide(image: Image.Image) -> bool:
    """Returns whether an image has more than 8 bits a channel; asked before it is decoded."""
    return image.mode.startswith("I") or image.mode == "F" or deep_channels(image)


def _low_bytes(path: Path) -> Image.Image:
    """Returns the low bytes of channels of 16 bits: read with the byte order turned round."""
    image: Any = open_limited(path, path)
    changed = []
    for tile in image.tile:
        mode = _rawmode(tile)
        arguments = tile[3]
        turned = mode[:-3] + _SWAPPED[mode[-3:]]
        new = (turned, *arguments[1:]) if isinstance(arguments, tuple) else turned
        parts = (*tuple(tile)[:3], new)
        changed.append(type(tile)(*parts) if hasattr(tile, "_fields") else parts)
    image.tile = changed
    image.load()
    opened: Image.Image = image
    return opened


def raw_values(image: Image.Image, path: Path, *, deep: bool) -> npt.NDArray[Any]:
    """Returns a wide image's own values, (H, W) or (H, W, C), turned as its camera says.

    `deep` says that it has several channels of 16 bits. UserError for NaN and infinite values.
    """
    if deep:
        low = np.asarray(ImageOps.exif_transpose(_low_bytes(path))).astype(np.uint16)
        high = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)
        return high * np.uint16(256) + low
    values = np.asarray(ImageOps.exif_transpose(image))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(f"{path} holds NaN or infinite pixel values")
    return values


def usual_range(values: npt.NDArray[Any], path: Path) -> ValueRange:
    """Returns the range that a file of its type means where none was measured or given.

    16 bits mean 0 to 65535, floats 0 to 1 or 0 to 255. UserError where no agreement fits.
    """
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "ui":
        if low >= 0 and high <= 65535:
            return 0.0, 65535.0
    elif low >= 0 and high <= 1:
        return 0.0, 1.0
    elif low >= 0 and high <= 255:
        return 0.0, 255.0
    raise UserError(
        f"{path} holds values from {low:g} to {high:g}, for which no range is agreed: give --range"
        " LOW HIGH, the values that mean black and white"
    )


def scale(values: npt.NDArray[Any], value_range: ValueRange) -> npt.NDArray[np.uint8]:
    """Returns values as uint8: the range becomes 0 to 255, what lies beyond is cut off."""
    low, high = value_range
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def checked(value_range: Sequence[float] | None) -> ValueRange | None:
    """Returns a range as it is given by a user or a record; UserError where it is none."""
    if value_range is None:
        return None
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError) as error:
        found = repr(value_range)[:100]
        raise UserError(f"value range {found}: expected two numbers, LOW and HIGH") from error
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UserError(f"--range {low:g} {high:g}: expected LOW below HIGH")
    return low, high


def settle(low: float, high: float, integers: bool) -> ValueRange:
    """Returns the range for values that lie between low and high.

    It is that of the smallest usual depth that holds them, if they fill an eighth of it; else the
    values' own, with half their span on both sides, for what a defect shows beyond.
    """
    ends = [float(2**bits - 1) for bits in BITS] if integers else list(FLOATS)
    if low >= 0:
        end = next((end for end in ends if high <= end), None)
        blank = high - low < LEAST if integers else high == low
        if end is not None and (blank or high - low >= end * USED):
            return 0.0, end
    margin = max(high - low, 1.0 if integers else 1e-6) / 2
    below, above = low - margin, high + margin
    if integers:
        lowest = 0.0 if low >= 0 else below
        below, above = float(np.floor(max(below, lowest))), float(np.ceil(above))
    return below, above


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Returns at most `count` files, spread evenly, the same ones every time."""
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[i] for i in chosen]


def _header(path: Path) -> Image.Image | None:
    try:
        return open_image(path, header_only=True)
    except UserError:
        return None  # whoever reads it says so


def any_wide(paths: Sequence[Path]) -> bool:
    """Returns whether files have more than 8 bits, by the headers of a few of them."""
    headers = [_header(path) for path in spread(paths, LOOKED)]
    return any(image is not None and is_wide(image) for image in headers)


def measure(paths: Sequence[Path]) -> Measured | None:
    """Returns the range of files of more than 8 bits, or None where they have 8.

    What cannot be read is passed over: whoever reads it says so.
    """
    if not any_wide(paths):
        return None
    tails, integers = [], True
    for path in spread(paths, SAMPLE):
        image = _header(path)
        try:
            if image is None or not is_wide(image):
                continue
            values = raw_values(image, path, deep=deep_channels(image))
        except (UserError, OSError, SyntaxError, ValueError):
            continue
        integers &= values.dtype.kind in "ui"
        tails.append(np.percentile(values, TAILS))
    if not tails:
        return None
    used_low, used_high = float(np.min(tails, axis=0)[0]), float(np.max(tails, axis=0)[1])
    low, high = settle(used_low, used_high, integers)
    return Measured(
        low=low,
        high=high,
        used_low=used_low,
        used_high=used_high,
        files=len(tails),
        full=65535.0 if integers else None,
    )
