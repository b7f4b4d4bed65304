"""The embedded dataset `textures`: brick, grass and gravel, cut from scikit-image's photographs.

Training crops come from the upper and the lower part of each photograph, test crops from the strip
between them, so that no test pixel is ever a training pixel. Half of the test crops get a drawn
defect with its exact mask. The drawing below is geometry and grey values only; it shares nothing
with the synthesis methods that detectors train on (no noise masks, no textures, no blending of
other images), so that a detector cannot win by having seen its own test generator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from sia_gen.core.pixels.images import Array8, Mask, encode_png
from sia_gen.core.seeds import generator
from sia_gen.core.store.files import new_folder, write_json

CATEGORIES = ("brick", "grass", "gravel")
VERSION = 1  # part of the folder's name: a change of the drawing makes a new folder
CROP = 64
TRAIN_CROPS = 240
TEST_GOOD = 40
TEST_PER_DEFECT = 8
STRIP = (200, 312)  # rows of the photograph that only test crops use
DEFECTS = ("scratch", "spot", "missing_patch", "blur", "stain")
CONTRAST = (35.0, 80.0)  # grey levels between a drawn defect and what it covers
MIN_CHANGE = 12.0  # mean absolute change over the mask, in grey levels: below, nobody sees it
MIN_AREA = 20  # pixels


def photograph(category: str) -> Array8:
    """Returns the category's photograph, uint8 gray (512, 512)."""
    import skimage.data

    return np.asarray(getattr(skimage.data, category)(), dtype=np.uint8)


def crop_of(photo: Array8, rows: tuple[int, int], rng: np.random.Generator) -> Array8:
    """Returns a crop (64, 64) from anywhere between two rows of a photograph."""
    top = int(rng.integers(rows[0], rows[1] - CROP + 1))
    left = int(rng.integers(0, photo.shape[1] - CROP + 1))
    return photo[top : top + CROP, left : left + CROP]


def _drawn(shape: str, rng: np.random.Generator) -> Mask:
    """Returns the region of one defect, drawn at four times the size and reduced."""
    scale = 4
    canvas = Image.new("L", (CROP * scale, CROP * scale), 0)
    pen = ImageDraw.Draw(canvas)
    x, y = rng.uniform(12 * scale, (CROP - 12) * scale, 2)
    if shape == "line":
        angle, length = rng.uniform(0, np.pi), rng.uniform(20, 45) * scale
        bend = rng.normal(0, 3 * scale, 2)
        along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        points = [
            (x - along[0], y - along[1]),
            (x + bend[0], y + bend[1]),
            (x + along[0], y + along[1]),
        ]
        pen.line(points, fill=255, width=int(rng.uniform(1.5, 3.0) * scale), joint="curve")
    elif shape == "disc":
        a, b = rng.uniform(3, 8, 2) * scale
        pen.ellipse((x - a, y - b, x + a, y + b), fill=255)
    else:
        corners = int(rng.integers(4, 8))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = rng.uniform(6, 13, corners) * scale
        pen.polygon(
            [(x + r * np.cos(t), y + r * np.sin(t)) for r, t in zip(radii, angles, strict=True)],
            fill=255,
        )
    small = canvas.resize((CROP, CROP), Image.Resampling.BOX)
    return np.asarray(small) >= 128


def draw_defect(crop: Array8, defect: str, rng: np.random.Generator) -> tuple[Array8, Mask]:
    """Returns a gray crop (64, 64) with one defect drawn into it, and the defect's exact mask.

    Outside the mask nothing changes. A draw that a person could not see (a blurred patch of a
    face that is flat anyway) is no defect and is drawn again.
    """
    while True:
        result, region = _draw_once(crop, defect, rng)
        change = np.abs(result.astype(np.int16) - crop)[region]
        if region.sum() >= MIN_AREA and change.mean() >= MIN_CHANGE:
            return result, region


def _draw_once(crop: Array8, defect: str, rng: np.random.Generator) -> tuple[Array8, Mask]:
    shape = {"scratch": "line", "spot": "disc", "stain": "disc"}.get(defect, "polygon")
    region = _drawn(shape, rng)
    values = crop.astype(np.float64)
    inside = float(values[region].mean()) if region.any() else 0.0
    sign = 1.0 if inside < 128 else -1.0
    if rng.uniform() < 0.25:
        sign = -sign
    contrast = sign * rng.uniform(*CONTRAST)
    if defect in {"scratch", "spot"}:
        changed = np.where(region, inside + contrast, values)
    elif defect == "missing_patch":
        # What lies under a missing piece: a flat, dark ground.
        changed = np.where(region, rng.uniform(20, 60), values)
    elif defect == "blur":
        changed = np.where(region, ndimage.gaussian_filter(values, rng.uniform(2.5, 4.0)), values)
    else:  # stain: the texture stays visible under a change of tone
        changed = np.where(region, values * rng.uniform(0.7, 0.9) + contrast, values)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8), region


def materialise(folder: Path) -> Path:
    """Writes the dataset below folder in MVTec-AD's layout, once, and returns its root."""
    root = folder / f"v{VERSION}" / "textures"
    if (root / "textures.json").is_file():
        return root
    with new_folder(root) as temporary:
        for category in CATEGORIES:
            _write_category(temporary / category, category)
        facts = {"version": VERSION, "source": "scikit-image: skimage.data", "crop": CROP}
        write_json(temporary / "textures.json", facts)
    return root


def _save(path: Path, gray: Array8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(gray))


def _write_category(root: Path, category: str) -> None:
    photo = photograph(category)
    rng = generator("textures", VERSION, category, "train")
    for i in range(TRAIN_CROPS):
        rows = (0, STRIP[0]) if i % 2 == 0 else (STRIP[1], photo.shape[0])
        _save(root / "train" / "good" / f"{i:03}.png", crop_of(photo, rows, rng))
    rng = generator("textures", VERSION, category, "test")
    for i in range(TEST_GOOD):
        _save(root / "test" / "good" / f"{i:03}.png", crop_of(photo, STRIP, rng))
    for defect in DEFECTS:
        for i in range(TEST_PER_DEFECT):
            image, mask = draw_defect(crop_of(photo, STRIP, rng), defect, rng)
            _save(root / "test" / defect / f"{i:03}.png", image)
            _save(root / "ground_truth" / defect / f"{i:03}_mask.png", mask.astype(np.uint8) * 255)
