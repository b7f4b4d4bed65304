"""The shards' own PNG: Pillow reads what we write, we read what Pillow writes, damage is told."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sia_gen.core.errors import UserError
from sia_gen.core.pixels import png
from sia_gen.core.pixels.images import decode, encode_png


@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_pillow_and_we_read_the_same(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = png.encode(image)
    np.testing.assert_array_equal(png.read(content, "x"), image)
    np.testing.assert_array_equal(decode(content, "x"), image)
    np.testing.assert_array_equal(png.read(encode_png(image), "x"), image)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_images_go_to_pillow(mode: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for kind in ("PNG", "WEBP"):
        if kind == "WEBP" and mode in {"1", "P"}:
            continue
        buffer = io.BytesIO()
        Image.fromarray(image).convert(mode).save(buffer, kind, lossless=True)
        content = buffer.getvalue()
        np.testing.assert_array_equal(png.read(content, "x"), decode(content, "x"))


def test_every_flipped_byte_of_the_pixels_is_told() -> None:
    content = png.encode(np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    for position in range(png.HEAD.size + 8, len(content) - 16):
        broken = bytearray(content)
        broken[position] ^= 0x10
        with pytest.raises(UserError, match="cannot be decoded"):
            png.read(bytes(broken), "x")


@pytest.mark.parametrize("cut", [0, 10, 40, 60, -13, -1])
def test_a_cut_file_is_told_or_read_as_pillow_does(cut: int) -> None:
    content = png.encode(np.zeros((30, 30, 3), np.uint8))[:cut]
    try:
        expected = decode(content, "x")
    except UserError:
        with pytest.raises(UserError):
            png.read(content, "x")
    else:
        np.testing.assert_array_equal(png.read(content, "x"), expected)


def test_a_header_that_lies_about_its_size_is_told() -> None:
    import struct
    import zlib

    content = bytearray(png.encode(np.zeros((4, 4, 3), np.uint8)))
    struct.pack_into(">I", content, 20, 5)
    struct.pack_into(">I", content, 29, zlib.crc32(bytes(content[12:29])))
    with pytest.raises(UserError, match="other than 4 x 5"):
        png.read(bytes(content), "x")


def test_only_colour_bytes_are_written() -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        png.encode(np.zeros((4, 4, 4), np.uint8))
