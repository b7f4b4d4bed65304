"""Reading images: every mode a camera or a tool may write, and what is no image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import decode, encode_png, read_image, resize_image
from sia_gen.core.pixels.masks import read_mask

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_modes_become_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(RGB)
    gray = rgb.convert("L")
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", rgb)), RGB)
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.bmp", rgb)), RGB)
    read = read_image(save(tmp_path / "c.png", gray))
    np.testing.assert_array_equal(read, np.repeat(np.asarray(gray)[..., None], 3, axis=2))
    palette = rgb.quantize(256)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_image(save(tmp_path / "d.png", palette)), expected)
    for name, mode in (("e.tif", "CMYK"), ("f.tiff", "L"), ("g.png", "1")):
        assert read_image(save(tmp_path / name, rgb.convert(mode))).shape == RGB.shape


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    rgba[0, 0, 3] = 255
    read = read_image(save(tmp_path / "a.png", Image.fromarray(rgba)))
    np.testing.assert_array_equal(read[0, 0], RGB[0, 0])
    assert read[1:].max() == 0


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    read = read_image(save(tmp_path / "a.png", Image.fromarray(ramp)))[..., 0]
    np.testing.assert_array_equal(read, np.arange(256).reshape(16, 16))


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", Image.fromarray(RGB), exif=exif, quality=100)
    assert read_image(path).shape == (20, 12, 3)


def test_resizing_is_bilinear_with_antialiasing_and_without_crop() -> None:
    """A fine checkerboard becomes flat gray: without antialiasing it would alias."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = resize_image(np.repeat(board[..., None], 3, axis=2), 16)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 128).max() <= 2
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 62:] = 255
    assert resize_image(wide, 16)[:, -1].min() > 50


def test_resizing_is_what_the_papers_loader_does(tmp_path: Path) -> None:
    """RealNet's: torchvision's Resize of a Pillow image, bilinear; nearest for masks."""
    from torchvision.transforms import InterpolationMode, Resize

    picture = Image.fromarray(RNG.integers(0, 256, (93, 61, 3), dtype=np.uint8))
    path = save(tmp_path / "a.png", picture)
    for size in (16, 64, 128):
        theirs = Resize((size, size), InterpolationMode.BILINEAR)(picture)
        np.testing.assert_array_equal(read_image(path, size), np.asarray(theirs))
    mask = Image.fromarray((RNG.uniform(size=(93, 61)) > 0.5).astype(np.uint8) * 255)
    theirs = Resize((32, 32), InterpolationMode.NEAREST)(mask)
    np.testing.assert_array_equal(
        read_mask(save(tmp_path / "m.png", mask), 32), np.asarray(theirs) > 0
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not found</html>", "named like an image but is none"),
        (b"", "named like an image but is none"),
        (encode_png(RGB)[:200], "cannot be decoded"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_missing_and_enormous_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / "none.png")
    bomb = save(tmp_path / "bomb.png", Image.new("1", (9000, 9000)))
    with pytest.raises(UserError, match="9000 x 9000"):
        read_image(bomb)


def test_png_keeps_every_bit() -> None:
    np.testing.assert_array_equal(decode(encode_png(RGB), "x"), RGB)
    with pytest.raises(UserError, match="x is named like an image but is none"):
        decode(b"no", "x")
