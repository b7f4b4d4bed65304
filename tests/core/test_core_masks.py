"""One reader for masks: levels, classes, scattered values, alpha, palettes, orientation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from sia_gen.core.data.category import ExampleImage
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.masks import read_mask, read_mask_file

SHAPE = (40, 48)


def disc(radius: int = 9) -> np.ndarray:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray((y - 18) ** 2 + (x - 20) ** 2 <= radius**2)


DISC = disc()


def save(path: Path, values: np.ndarray | Image.Image, **options: object) -> Path:
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(path, **options)
    return path


def off(mask: np.ndarray) -> int:
    """How many pixels a mask differs from the disc in."""
    return int((mask != DISC).sum())


@pytest.mark.parametrize("value", [1, 3, 127, 236, 255])
def test_two_levels_mean_what_is_not_zero(tmp_path: Path, value: int) -> None:
    found = read_mask_file(save(tmp_path / "m.png", (DISC * value).astype(np.uint8)))
    assert off(found.mask) == 0 and found.rule == "two levels"
    deep = (DISC * (value * 257)).astype(np.uint16)
    assert off(read_mask(save(tmp_path / "d.png", deep))) == 0
    assert off(read_mask(save(tmp_path / "f.tif", (DISC * 0.5).astype(np.float32)))) == 0
    assert off(read_mask(save(tmp_path / "b.png", DISC))) == 0


def test_class_indices_all_count(tmp_path: Path) -> None:
    values = DISC.astype(np.uint8)
    values[30:36, 30:40] = 2
    values[2, 2] = 5  # one pixel of a class is a class
    mask = read_mask(save(tmp_path / "m.png", values))
    np.testing.assert_array_equal(mask, values > 0)
    values = values * 40  # 40, 80 and 200: a few values that fill areas
    values[2, 2] = 0
    found = read_mask_file(save(tmp_path / "n.png", values))
    np.testing.assert_array_equal(found.mask, values > 0)
    assert found.rule == "classes"


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_lossy_masks_count_from_half_of_their_maximum(tmp_path: Path, quality: int) -> None:
    white = (DISC * 255).astype(np.uint8)
    jpeg = save(tmp_path / "m.jpg", white, quality=quality)
    assert (np.asarray(Image.open(jpeg)) > 0).sum() > 1.2 * DISC.sum()  # what "above 0" would say
    assert off(read_mask(jpeg)) <= 3
    again = save(tmp_path / "m.png", Image.open(jpeg))  # kept as PNG, the traces stay
    assert off(read_mask(again)) <= 3
    dim = save(tmp_path / "dim.jpg", (DISC * 120).astype(np.uint8), quality=quality)
    assert off(read_mask(dim)) <= 20


def _antialiased() -> Image.Image:
    large = Image.new("L", (SHAPE[1] * 4, SHAPE[0] * 4))
    ImageDraw.Draw(large).ellipse((44, 36, 120, 112), fill=255)
    return large.resize(SHAPE[::-1], Image.Resampling.BOX)


@pytest.mark.parametrize(
    "made",
    [
        _antialiased,
        lambda: _antialiased().convert("RGB"),
        lambda: Image.fromarray((DISC * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2)),
        lambda: Image.fromarray((np.asarray(_antialiased()) / 255).astype(np.float32)),
        lambda: Image.fromarray(np.asarray(_antialiased()).astype(np.uint16) * 257),
        lambda: _antialiased().point(lambda v: v * 0.6),
    ],
    ids=["gray", "rgb", "blurred", "float", "16-bit", "blended"],
)
def test_soft_edges_count_from_half(tmp_path: Path, made: Callable[[], Image.Image]) -> None:
    found = read_mask_file(save(tmp_path / "m.tif", made()))
    assert found.rule == "scattered"
    half = np.asarray(_antialiased()) >= 128
    assert (found.mask != half).sum() <= 50  # an edge of one pixel


def test_values_that_say_two_things_are_refused_by_name(tmp_path: Path) -> None:
    soft = np.asarray(_antialiased()).astype(np.int32)
    soft[28:38, 28:44] = 60  # an area far below half of the maximum, beside soft edges
    with pytest.raises(UserError, match=r"odd\.png holds areas of value 60.*black and white"):
        read_mask(save(tmp_path / "odd.png", soft.astype(np.uint8)))
    with pytest.raises(UserError, match=r"nan\.tif holds NaN"):
        read_mask(save(tmp_path / "nan.tif", np.full(SHAPE, np.nan, np.float32)))
    with pytest.raises(UserError, match=r"low\.tif holds negative"):
        read_mask(save(tmp_path / "low.tif", DISC.astype(np.float32) - 1))


@pytest.mark.parametrize("colour", [0, 255, (200, 20, 20)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_shape_on_a_transparent_ground(
    tmp_path: Path, colour: int | tuple[int, int, int], mode: str
) -> None:
    rgba = np.zeros((*SHAPE, 4), np.uint8)
    rgba[..., :3] = colour
    rgba[..., 3] = DISC * 255
    image = Image.fromarray(rgba)
    if mode == "LA":
        image = image.convert("LA")
    if mode == "PA":  # which PNG does not have
        image = image.convert("RGB").convert("P").convert("PA")
        image.putalpha(Image.fromarray(rgba[..., 3]))
    assert off(read_mask(save(tmp_path / "m.tif", image))) == 0
    rgba[..., 3] = np.asarray(_antialiased())
    soft = read_mask_file(save(tmp_path / "s.png", Image.fromarray(rgba)))
    assert soft.rule == "alpha" and off(soft.mask) <= 40


def test_alpha_that_says_nothing_is_not_asked(tmp_path: Path) -> None:
    rgba = np.zeros((*SHAPE, 4), np.uint8)
    rgba[DISC] = (9, 0, 0, 0)
    rgba[..., 3] = 255
    assert off(read_mask(save(tmp_path / "opaque.png", rgba))) == 0
    rgba[..., 3], rgba[2, 2, 3] = 255, 0  # a hole in the corner of a black and white mask
    assert off(read_mask(save(tmp_path / "hole.png", rgba))) == 0
    rgba[...] = (255, 255, 255, 0)
    assert not read_mask(save(tmp_path / "nothing.png", rgba)).any()


def test_palettes_mean_their_colours(tmp_path: Path) -> None:
    indices = DISC.astype(np.uint8)
    for name, palette in {
        "voc": [0, 0, 0, 128, 0, 0],
        "turned": [0, 0, 0, 255, 255, 255],
        "white ground": [255, 255, 255, 255, 0, 0],  # no black: index 0 is the ground
        "all black": [0, 0, 0, 0, 0, 0],
    }.items():
        image = Image.fromarray(indices)
        image = image.convert("P")
        image.putpalette(palette + [0] * (768 - len(palette)))
        assert off(read_mask(save(tmp_path / f"{name}.png", image))) == 0, name
    image = Image.fromarray(1 - indices).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)  # index 0 is white: the defect
    assert off(read_mask(save(tmp_path / "inverse.png", image))) == 0
    image = Image.fromarray(indices).convert("P")
    image.putpalette([200, 200, 200, 0, 0, 0] + [0] * 762)
    assert off(read_mask(save(tmp_path / "clear.png", image, transparency=0))) == 0


def test_masks_are_turned_as_their_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = np.ascontiguousarray(np.rot90((DISC * 255).astype(np.uint8)))
    mask = save(tmp_path / "m.png", lying, exif=exif)
    image = save(tmp_path / "i.jpg", lying, exif=exif)
    assert off(read_mask(mask)) == 0
    drawn = ExampleImage(path=image, defect="crack", mask=mask).read_mask()
    assert drawn is not None and off(drawn) == 0


def test_several_masks_of_an_image_are_united(tmp_path: Path) -> None:
    upper, lower = DISC.copy(), DISC.copy()
    upper[18:], lower[:18] = False, False
    masks = [
        save(tmp_path / f"{i}.png", (part * value).astype(np.uint8))
        for i, (part, value) in enumerate(((upper, 236), (lower, 237)))
    ]
    image = save(tmp_path / "i.png", np.zeros(SHAPE, np.uint8))
    example = ExampleImage(path=image, defect="x", mask=masks[0], more_masks=(masks[1],))
    drawn = example.read_mask()
    assert drawn is not None and off(drawn) == 0
    assert example.read_mask(20) is not None
    save(masks[1], np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match=r"1\.png is 4 x 4 pixels"):
        example.read_mask()


def test_masks_are_resized_by_the_nearest_pixel(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", (DISC * 255).astype(np.uint8))
    small = read_mask(path, 16)
    assert small.shape == (16, 16) and small.dtype == np.bool_
    theirs = Image.fromarray((DISC * 255).astype(np.uint8)).resize(
        (16, 16), Image.Resampling.NEAREST
    )
    np.testing.assert_array_equal(small, np.asarray(theirs) > 0)
