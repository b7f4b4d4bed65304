"""Files of more than 8 bits: one range for a category, measured on its normal images or given."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image
from sia_gen.core.pixels.ranges import measure, settle

RNG = np.random.default_rng(5)
GRAY = np.clip(120 + RNG.normal(0, 10, (24, 32)), 0, 255).astype(np.uint8)


def deep_png(path: Path, values: np.ndarray) -> Path:
    """A PNG of 16 bits in several channels, which Pillow reads but cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    colour = {3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def category(root: Path, make: Any, count: int = 6) -> Any:
    good = root / "plate" / "train" / "good"
    test = root / "plate" / "test" / "crack"
    for folder in (good, test):
        folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(make(np.roll(GRAY, i, axis=1))).save(good / f"{i:03}.tif")
    bright = GRAY.copy()
    bright[:8, :8] = 250
    Image.fromarray(make(bright)).save(test / "000.tif")
    return open_dataset(root).one("plate")


KINDS: dict[str, tuple[Any, tuple[float, float]]] = {
    "8 bits in 16": (lambda a: a.astype(np.uint16), (0, 255)),
    "10 bits": (lambda a: a.astype(np.uint16) * 4, (0, 1023)),
    "12 bits": (lambda a: a.astype(np.uint16) * 16, (0, 4095)),
    "16 bits": (lambda a: a.astype(np.uint16) * 257, (0, 65535)),
    "float to 1": (lambda a: (a / 255).astype(np.float32), (0, 1)),
    "float to 255": (lambda a: a.astype(np.float32), (0, 255)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_usual_depths_are_found(tmp_path: Path, kind: str) -> None:
    make, expected = KINDS[kind]
    found = category(tmp_path, make)
    assert found.value_range == expected
    # As far as the depth allows, the pixels are those of the 8-bit original.
    read = found.read_image(found.train[0])[..., 0]
    assert np.abs(read.astype(int) - GRAY).max() <= 1


@pytest.mark.parametrize("scale", [4.0, 0.01])
def test_a_thermal_range_keeps_its_levels(tmp_path: Path, scale: float) -> None:
    kind = np.uint16 if scale > 1 else np.float32
    found = category(tmp_path, lambda a: (51200 + a * scale).astype(kind))
    low, high = found.value_range
    assert 51200 < low < 51200 + 120 * scale < high < 51200 + 255 * scale
    read = found.read_image(found.train[0])[..., 0]
    assert len(np.unique(read)) >= 0.8 * len(np.unique(GRAY))
    assert found.measured_range.narrow == (scale > 1)


def test_a_bright_defect_changes_nothing_around_it(tmp_path: Path) -> None:
    for kind, (make, _) in KINDS.items():
        found = category(tmp_path / kind, make)
        good, bad = (found.read_image(p) for p in (found.train[0], found.test[0].path))
        np.testing.assert_array_equal(good[8:, 8:], bad[8:, 8:])
        # The same holds where a file is read alone.
        alone = [read_image(p) for p in (found.train[0], found.test[0].path)]
        np.testing.assert_array_equal(alone[0][8:, 8:], alone[1][8:, 8:])


def test_a_given_range_is_taken_and_refused_for_eight_bits(tmp_path: Path) -> None:
    category(tmp_path / "deep", lambda a: a.astype(np.uint16) * 16)
    found = open_dataset(tmp_path / "deep", (1000, 3000)).one("plate")
    assert found.value_range == (1000, 3000) and "given range 1000 to 3000" in found.range_note()
    read = found.read_image(found.train[0])[..., 0].astype(float)
    expected = np.clip((GRAY * 16.0 - 1000) / 2000 * 255, 0, 255)
    assert np.abs(read - expected).max() <= 1
    category(tmp_path / "flat", lambda a: a)
    plain = open_dataset(tmp_path / "flat").one("plate")
    assert plain.value_range is None and plain.range_note() is None
    with pytest.raises(UserError, match="more than 8 bits, and flat/plate has none"):
        _ = open_dataset(tmp_path / "flat", (0, 4095)).one("plate").value_range
    with pytest.raises(UserError, match="expected LOW below HIGH"):
        open_dataset(tmp_path / "deep", (5, 5))


def test_the_range_is_told_and_far_below_the_container_warned_of(tmp_path: Path) -> None:
    note = category(tmp_path / "a", KINDS["12 bits"][0]).range_note()
    assert note.startswith("warning: a/plate: values ") and "read at 0 to 4095" in note
    assert "0 to 65535: give --range LOW HIGH" in note
    whole = category(tmp_path / "b", KINDS["16 bits"][0]).range_note()
    assert not whole.startswith("warning") and "read at 0 to 65535" in whole


def test_dead_and_hot_pixels_do_not_set_the_range(tmp_path: Path) -> None:
    def make(a: np.ndarray) -> np.ndarray:
        large = np.tile(a, (8, 8)).astype(np.uint16) * 16
        large[3, 3], large[5, 5] = 65535, 0
        return large

    assert category(tmp_path, make).value_range == (0, 4095)


def test_colours_of_sixteen_bits_keep_their_low_bytes(tmp_path: Path) -> None:
    values = np.dstack([GRAY.astype(np.uint16) * 16 + k for k in range(3)])
    path = deep_png(tmp_path / "rgb.png", values)
    found = measure([path])
    assert found is not None and found.value_range == (0, 4095)
    read = read_image(path, value_range=found.value_range)
    assert np.abs(read.astype(int) - GRAY[..., None]).max() <= 1
    alpha = np.dstack([values, np.full(GRAY.shape, 4095, np.uint16)])
    read = read_image(deep_png(tmp_path / "rgba.png", alpha), value_range=(0, 4095))
    assert np.abs(read.astype(int) - GRAY[..., None]).max() <= 1


def test_values_without_any_agreed_range_are_refused_by_name(tmp_path: Path) -> None:
    for name, values in {
        "wide.tif": GRAY.astype(np.int32) * 70000,
        "below.tif": GRAY.astype(np.float32) - 200,
        "nan.tif": np.full(GRAY.shape, np.nan, np.float32),
    }.items():
        Image.fromarray(values).save(tmp_path / name)
        with pytest.raises(UserError, match=rf"{name} holds"):
            read_image(tmp_path / name)


def test_settled_ranges_hold_what_was_measured() -> None:
    for low, high, integers in [
        (51241, 52181, True), (0, 300, True), (900, 16000, True), (-40.0, 130.5, False),
        (7, 7, True), (0.2, 0.21, False), (20.0, 300.0, False),
    ]:  # fmt: skip
        below, above = settle(low, high, integers)
        assert below <= low and above >= high and above > below
