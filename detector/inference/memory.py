"""Images that are no files: arrays, Pillow images and bytes, read as their files would be."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, read_image
from sia_gen.core.pixels.ranges import ValueRange


def _through_file(
    write: Callable[[Path], object], name: str, value_range: ValueRange | None
) -> Array8:
    """Returns what the one reader of files makes of a file that `write` leaves.

    UserErrors name the image as `name`, for nobody knows the file.
    """
    with tempfile.TemporaryDirectory(prefix="detector-") as folder:
        path = Path(folder) / "image"
        write(path)
        try:
            return read_image(path, value_range=value_range)
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from error


def of_bytes(
    content: bytes, name: str, most_pixels: int, value_range: ValueRange | None = None
) -> Array8:
    """Returns an image file's content as uint8 RGB (H, W, 3); UserError for what is none.

    What its header declares is looked at before anything is decoded. Of more than 8 bits
    `value_range` becomes 0 to 255.
    """
    if not content:
        raise UserError(f"{name} is empty: send an image file")
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name} declares too many pixels: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{name} is no image that can be read") from error
    if width * height > most_pixels:
        raise UserError(
            f"{name} declares {width} x {height} pixels, more than the limit of {most_pixels}"
        )
    return _through_file(lambda path: path.write_bytes(content), name, value_range)


def of_pillow(image: Image.Image, value_range: ValueRange | None = None) -> Array8:
    """Returns a Pillow image as uint8 RGB (H, W, 3), converted as its file would be."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return np.array(image, dtype=np.uint8)
    return _through_file(lambda path: image.save(path, "TIFF"), "the given image", value_range)


def of_array(given: npt.NDArray[Any], what: str) -> Array8:
    """Returns an array (H, W), (H, W, 1) or (H, W, 3) as uint8 RGB (H, W, 3)."""
    if given.ndim == 2:
        given = given[..., None]
    if given.ndim != 3 or given.shape[-1] not in {1, 3} or 0 in given.shape:
        raise UserError(f"{what} of shape {given.shape}: expected height x width (x 1 or x 3)")
    if np.issubdtype(given.dtype, np.floating):
        if not np.isfinite(given).all() or given.min() < 0 or given.max() > 1:
            raise UserError(f"{what} of {given.dtype}: expected finite values from 0 to 1")
        given = np.rint(given * 255).astype(np.uint8)
    if given.dtype != np.uint8:
        raise UserError(f"{what} of {given.dtype}: expected uint8, or floats from 0 to 1")
    return np.ascontiguousarray(np.broadcast_to(given, (*given.shape[:2], 3)))
