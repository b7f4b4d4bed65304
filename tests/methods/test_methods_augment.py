"""DTD's ten augmentations beside stored outputs of imgaug 0.4; foregrounds beside OpenCV's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sia_gen.core.pixels import foreground
from sia_gen.core.seeds import generator
from sia_gen.methods import _augment as augment

REFERENCE = np.load(Path(__file__).with_name("reference.npz"))


class Given:
    """Stands in for a generator and hands out given numbers."""

    def __init__(self, uniform: list[Any] | None = None, integers: list[Any] | None = None) -> None:
        self._uniform, self._integers = uniform or [], integers or []

    def uniform(self, *_: Any) -> Any:
        return np.array(self._uniform.pop(0))[()]

    def integers(self, *_: Any) -> Any:
        return np.array(self._integers.pop(0))[()]


@pytest.mark.parametrize(
    ("name", "drawn", "mean", "most"),
    [
        ("gamma", Given(uniform=[[0.6, 1.3, 1.9]]), 0.6, 1),
        ("brightness_luma", Given(uniform=[1.15, 0.1], integers=[20, 0]), 1.5, 6),
        ("brightness_value", Given(uniform=[1.15, 0.9], integers=[20, 0]), 1.5, 10),
        ("sharpness", Given(uniform=[1.7]), 0, 0),
        ("hue_saturation", Given(integers=[[33, -21]]), 1.5, 10),
        ("solarize", Given(uniform=[0.1], integers=[70]), 0, 0),
        ("posterize", Given(integers=[3]), 0, 0),
        ("invert", Given(), 0, 0),
        ("autocontrast", Given(integers=[8]), 0, 0),
        ("equalize", Given(), 0, 0),
    ],
)
def test_augmentations_do_what_imgaug_does(name: str, drawn: Given, mean: float, most: int) -> None:
    function = getattr(augment, name.removesuffix("_luma").removesuffix("_value"))
    ours = function(REFERENCE["image"], drawn)
    assert ours.dtype == np.uint8 and ours.shape == REFERENCE["image"].shape
    difference = np.abs(ours.astype(int) - REFERENCE[name])
    assert difference.mean() <= mean and difference.max() <= most
    assert np.abs(REFERENCE[name].astype(int) - REFERENCE["image"]).mean() > 1


def test_rotation_is_imgaugs_in_the_other_sense() -> None:
    ours = augment.rotate(REFERENCE["image"], Given(uniform=[-25.0]))  # type: ignore[arg-type]
    difference = np.abs(ours.astype(int) - REFERENCE["rotate"])
    assert np.median(difference) <= 1  # the black corners' border is cut differently
    assert ours[0, 0].max() == 0


def test_three_different_ones_are_drawn_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watch(index: int) -> Any:
        def function(image: Any, _: Any) -> Any:
            seen.append(index)
            return image

        return function

    monkeypatch.setattr(augment, "AUGMENTATIONS", tuple(watch(i) for i in range(10)))
    image, draws = REFERENCE["image"], []
    for k in range(400):
        seen.clear()
        augment.augment(image, 3, generator("draw", k))
        assert len(set(seen)) == 3
        draws.append(tuple(seen))
    counts = np.bincount(np.ravel(draws), minlength=10)
    assert counts.min() > 80 and counts.max() < 160  # 120 expected
    assert any(a > b for a, b, _ in draws) and any(a < b for a, b, _ in draws)


@pytest.mark.parametrize("function", augment.AUGMENTATIONS)
def test_each_keeps_type_and_shape_and_leaves_its_input_alone(function: Any) -> None:
    image = REFERENCE["image"].copy()
    outputs = [function(image, generator(i)) for i in range(8)]
    np.testing.assert_array_equal(image, REFERENCE["image"])
    assert all(o.shape == image.shape and o.dtype == np.uint8 for o in outputs)


def pictures() -> list[np.ndarray]:
    """The gray pictures of make_reference.py, drawn again."""
    drawn = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ground, part = rng.uniform(20, 230, 2)
        gray = rng.normal(ground, rng.uniform(2, 30), (256, 256))
        top, left = rng.integers(0, 120, 2)
        gray[top : top + 90, left : left + 130] = rng.normal(part, rng.uniform(2, 30), (90, 130))
        drawn.append(np.clip(gray, 0, 255).astype(np.uint8))
    return drawn


def test_foreground_rules_are_opencvs_and_scikit_images() -> None:
    """Thresholds and masks of the authors' own calls, to the pixel."""
    drawn = pictures()
    np.testing.assert_array_equal(np.array([g[::32, ::32] for g in drawn]), REFERENCE["grays"])
    for gray, otsu, triangle, packed in zip(
        drawn, REFERENCE["otsu"], REFERENCE["triangle"], REFERENCE["closed"], strict=True
    ):
        assert foreground.otsu(gray) == otsu
        assert foreground.triangle(gray) == triangle
        image = np.repeat(gray[..., None], 3, axis=2)
        expected = np.unpackbits(packed).reshape(4, 256, 256).astype(bool)
        for (close, opened), mask in zip(((6, 6), (8, 3), (3, 3), (15, 6)), expected, strict=True):
            rule = f"otsu bright gray close={close} open={opened}"
            np.testing.assert_array_equal(foreground.estimate(image, rule), mask)
            turned = f"otsu dark gray close={close} open={opened}"
            assert foreground.estimate(255 - image, turned).mean() == pytest.approx(
                mask.mean(), abs=0.2
            )
