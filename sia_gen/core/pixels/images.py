"""Reading, resizing and encoding images: everything inside is uint8 RGB, height x width x 3."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sia_gen.core.pixels.decoding import MAX_PIXELS, decoding, open_image, open_limited
from sia_gen.core.pixels.ranges import (
    ValueRange,
    deep_channels,
    is_wide,
    raw_values,
    scale,
    usual_range,
)

__all__ = ["MAX_PIXELS"]

Array8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
ORIENTATION = 0x0112  # EXIF's tag


def is_image_name(path: Path) -> bool:
    """Returns whether a file name looks like an image, whatever the case of its extension."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_size(path: Path) -> tuple[int, int]:
    """Returns an image file's width and height as it is seen, from its header alone.

    A photograph that its camera marks as lying on its side is turned; UserError if it is no image.
    """
    with decoding(path), open_image(path, header_only=True) as image:
        # PNG would decode the whole file to look for a mark that is hardly ever there.
        marked = image.format != "PNG" or "exif" in image.info
        sideways = marked and image.getexif().get(ORIENTATION, 1) in {5, 6, 7, 8}
        return (image.height, image.width) if sideways else image.size


def _to_rgb(path: Path, value_range: ValueRange | None) -> Image.Image:
    # Of channels of 16 bits Pillow keeps the upper 8, which is their usual range.
    deep = value_range is not None and deep_channels(open_image(path, header_only=True))
    image = open_image(path)
    if deep or is_wide(image):
        values = raw_values(image, path, deep=deep)
        image = Image.fromarray(scale(values, value_range or usual_range(values, path)))
    else:
        image = ImageOps.exif_transpose(image)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        # Transparent pixels have no colour of their own: they are laid on black.
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert(
            "RGB"
        )
    return image.convert("RGB")


def _resized(image: Image.Image, size: int | None, method: Image.Resampling) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    return image.resize((size, size), method)


def read_image(
    path: Path, size: int | None = None, value_range: ValueRange | None = None
) -> Array8:
    """Returns an image file as uint8 RGB (H, W, 3), resized to size x size if a size is given.

    Gray, palette, RGBA, CMYK and EXIF rotation are handled. Of files with more than 8 bits
    `value_range` becomes 0 to 255; without it the range that their type means (see ranges.py).
    Resizing is bilinear with antialiasing and without crop, as the papers' loaders do (Pillow's).
    """
    with decoding(path):
        image = _resized(_to_rgb(path, value_range), size, Image.Resampling.BILINEAR)
        return np.array(image, dtype=np.uint8)


def resize_image(image_HWC: Array8, size: int) -> Array8:
    """Returns a uint8 image resized to size x size (bilinear with antialiasing, no crop)."""
    resized = _resized(Image.fromarray(image_HWC), size, Image.Resampling.BILINEAR)
    return np.array(resized, dtype=np.uint8)


def encode_png(image: Array8, level: int = 1) -> bytes:
    """Returns a uint8 image (H, W, 3) or (H, W) as PNG bytes; level is zlib's effort, 0 to 9."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def decode(content: bytes, name: str) -> Array8:
    """Returns encoded image bytes as uint8 RGB (H, W, 3); name is used in error messages."""
    with decoding(name), open_limited(io.BytesIO(content), name) as image:
        return np.array(image.convert("RGB"), dtype=np.uint8)


def grid(rows: list[list[Array8]], gap: int = 2) -> Array8:
    """Returns rows of equally sized images as one contact sheet on white."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            top, left = gap + y * (height + gap), gap + x * (width + gap)
            sheet[top : top + height, left : left + width] = image
    return sheet
