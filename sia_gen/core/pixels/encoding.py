"""How images are stored: a format's name, its file suffix, and its encoder.

`png` and `webp` are lossless. `realnet` is what RealNet's authors did, for parity with their
archives: values cut off instead of rounded (the generator does that), JPEG at quality 75, 4:2:0.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from sia_gen.core.errors import UserError
from sia_gen.core.pixels import png
from sia_gen.core.pixels.images import Array8


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A way to store images; `version` is raised when the same pixels would give other bytes."""

    name: str
    version: int
    suffix: str
    lossless: bool
    encode: Callable[[Array8], bytes]

    @property
    def format(self) -> str:
        """What specifications and samples say, such as png-1."""
        return f"{self.name}-{self.version}"


def encode_webp(image: Array8) -> bytes:
    """Returns a uint8 image (H, W, 3) as lossless WebP; the fastest effort."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
    return buffer.getvalue()


def encode_jpeg(image: Array8) -> bytes:
    """Returns a uint8 image (H, W, 3) as JPEG, quality 75, 4:2:0: Pillow's defaults, spelt out."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75, subsampling="4:2:0")
    return buffer.getvalue()


ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        Encoding(name="png", version=1, suffix=".png", lossless=True, encode=png.encode),
        Encoding(name="webp", version=1, suffix=".webp", lossless=True, encode=encode_webp),
        Encoding(name="realnet", version=1, suffix=".jpg", lossless=False, encode=encode_jpeg),
    )
}
FORMATS = {encoding.format: encoding for encoding in ENCODINGS.values()}


def find_encoding(name: str) -> Encoding:
    """Returns an encoding by its name or its format; UserError lists the known names."""
    found = ENCODINGS.get(name) or FORMATS.get(name)
    if found is None:
        raise UserError(f"encoding {name!r}: expected one of {', '.join(ENCODINGS)}")
    return found
