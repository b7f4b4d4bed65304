"""Pillow on files that somebody else may have made: few formats, a limit of pixels, one error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from sia_gen.core.errors import UserError

MAX_PIXELS = 64_000_000  # larger headers are refused before anything is decoded
# Whatever a file is called: Pillow would hand PostScript to another program.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # MPO, of telephones, is opened as JPEG

# Pillow's own warning comes before the limit above could be told.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@contextmanager
def decoding(name: object) -> Iterator[None]:
    """Turns whatever Pillow raises on a broken file into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{name} does not exist") from error
    except UnidentifiedImageError as error:
        message = f"{name} is named like an image but is none: replace it, or remove it"
        raise UserError(message) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        message = (
            f"{name} declares more pixels than the limit of {MAX_PIXELS} ({error}): resize it, or"
            " remove it"
        )
        raise UserError(message) from error
    # Its plugins pass on what damaged fields lead to: struct, key, index, type, memory errors.
    except Exception as error:
        message = f"{name} cannot be decoded ({error}): replace it, or remove it"
        raise UserError(message) from error


def open_limited(source: Path | BinaryIO, name: object) -> Image.Image:
    """Returns an opened image whose header was read and is within the limit, not yet decoded."""
    with decoding(name):
        image = Image.open(source, formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            message = (
                f"{name} declares {image.width} x {image.height} pixels, more than the limit of"
                f" {MAX_PIXELS}: resize it, or remove it"
            )
            raise UserError(message)
    return image


def open_image(path: Path, *, header_only: bool = False) -> Image.Image:
    """Returns an image file, decoded unless its header is enough; UserError for what is none."""
    with decoding(path):
        image = open_limited(path, path)
        frames = getattr(image, "n_frames", 1)
        # A photograph of a telephone (MPO) carries a second picture of the same; the first is it.
        if frames > 1 and image.format != "MPO":
            raise UserError(f"{path} holds {frames} pictures: give one file for each")
        if not header_only:
            image.load()
    return image
