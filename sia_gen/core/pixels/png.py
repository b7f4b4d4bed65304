"""PNG for shards: level 1 with one filter, Up, on every row; half the time to write and read.

Choosing a filter for each row, as Pillow does, costs most of the encoder's time and lets a decoder
work only byte by byte; for images with a sampler's grain it saves 0 to 7 %
(benchmarks/results/cluster.md).
These files are ordinary PNGs. Whatever else is read goes to Pillow.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.decoding import MAX_PIXELS
from sia_gen.core.pixels.images import Array8, decode

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP = 2
LEVEL = 1
HEAD = struct.Struct(">8sI4sIIBBBBBI")  # signature and the whole IHDR chunk
RGB8 = (8, 2, 0, 0, 0)  # bits, colour type, compression, filter method, interlace


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def encode(image: Array8) -> bytes:
    """Returns a uint8 image (H, W, 3) as PNG bytes."""
    height, width, channels = image.shape
    if channels != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected uint8 (H, W, 3), found {image.dtype} {image.shape}")
    rows = np.empty((height, 1 + 3 * width), dtype=np.uint8)
    rows[:, 0] = UP
    flat = image.reshape(height, 3 * width)
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    head = struct.pack(">IIBBBBB", width, height, *RGB8)
    return (
        SIGNATURE
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(rows.tobytes(), LEVEL))
        + _chunk(b"IEND", b"")
    )


def _own(content: bytes) -> tuple[int, int, int] | None:
    """Returns width, height and length of the pixels of a file that `encode` may have written."""
    if len(content) < HEAD.size + 24:
        return None
    signature, length, kind, width, height, *facts, _ = HEAD.unpack_from(content)
    if (signature, length, kind, tuple(facts)) != (SIGNATURE, 13, b"IHDR", RGB8):
        return None
    size, kind = struct.unpack_from(">I4s", content, HEAD.size)
    one_chunk = kind == b"IDAT" and len(content) == HEAD.size + 8 + size + 4 + 12
    small = 0 < width * height <= MAX_PIXELS
    return (width, height, size) if one_chunk and small else None


def read(content: bytes, name: str) -> Array8:
    """Returns encoded image bytes of any kind as uint8 RGB (H, W, 3); name is used in errors."""
    own = _own(content)
    if own is None:
        return decode(content, name)
    width, height, size = own
    start = HEAD.size + 8
    pixels = memoryview(content)[start : start + size]
    (check,) = struct.unpack_from(">I", content, start + size)
    if zlib.crc32(pixels, zlib.crc32(b"IDAT")) != check:
        raise UserError(f"{name} cannot be decoded: its pixels do not have their checksum")
    expected = height * (1 + 3 * width)
    try:
        inflated = zlib.decompressobj().decompress(pixels, expected + 1)
    except zlib.error as error:
        raise UserError(f"{name} cannot be decoded: {error}") from error
    if len(inflated) != expected:
        raise UserError(f"{name} cannot be decoded: it holds other than {width} x {height} pixels")
    rows = np.frombuffer(inflated, dtype=np.uint8).reshape(height, 1 + 3 * width)
    if not (rows[:, 0] == UP).all():
        return decode(content, name)
    summed = np.add.accumulate(rows[:, 1:], axis=0, dtype=np.uint8)
    return summed.reshape(height, width, 3)
