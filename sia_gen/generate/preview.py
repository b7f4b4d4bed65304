"""Contact sheet: normal images above synthetic ones of rising strength, from the same seeds.

In a column below `normal` every row has the same seed, so that only the strength differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, encode_png, grid
from sia_gen.core.seeds import image_seed
from sia_gen.core.store.files import write_bytes
from sia_gen.core.store.objects import require_local
from sia_gen.generate import model as source
from sia_gen.generate.options import require_guidance_scale

GAP = 2
MARGIN = 6  # pixels around a label
INK, TITLE_GROUND = (20, 20, 20), (228, 232, 238)


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """What the sheet shows and where it goes."""

    out: str
    data: str = "textures"
    categories: str = "all"
    model: str = "textures-64"
    columns: int = 6
    strengths: tuple[float, ...] = (0.0, 0.1, 0.2)
    scale: int = 2
    seed: int = 0
    steps: int = 20
    sampler: str = "iddpm"
    precision: str = "auto"
    device: str = "auto"
    guidance: str = ""
    guidance_scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuses values that make no sheet, by their names."""
        if not 1 <= self.columns <= 100:
            raise UserError(f"--columns {self.columns}: expected 1 to 100")
        if not 1 <= self.scale <= 16:
            raise UserError(f"--scale {self.scale}: expected 1 to 16")
        require_guidance_scale(self.guidance_scale)
        if not self.strengths:
            raise UserError("--strengths is empty: give numbers such as 0,0.1,0.2")
        for strength in self.strengths:
            if not (math.isfinite(strength) and strength >= 0):
                raise UserError(f"--strengths {strength}: a strength is a number of at least 0")


def parse_strengths(text: str) -> tuple[float, ...]:
    """Returns the numbers of `0,0.1,0.2`; UserError for anything else."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        message = f"--strengths {text!r}: expected numbers separated by commas, such as 0,0.1,0.2"
        raise UserError(message) from error


def _enlarge(image: Array8, scale: int) -> Array8:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _normal(category: Category, columns: int, size: int) -> list[Array8]:
    """Returns normal images spread evenly over the training set, repeated if there are too few."""
    picks = np.linspace(0, len(category.train) - 1, columns).round().astype(int)
    return [category.read_image(category.train[pick], size) for pick in picks]


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default()


def sheet(blocks: Sequence[tuple[str, Sequence[tuple[str, list[Array8]]]]], scale: int) -> Array8:
    """Returns blocks (title, rows of (label, images)) as one labelled RGB image."""
    font = _font()
    labels = [label for _, rows in blocks for label, _ in rows]
    wide = max(int(font.getlength(label)) for label in labels) + 2 * MARGIN
    high = int(font.getbbox("Ag")[3]) + 2 * MARGIN
    pictures = [
        grid([[_enlarge(image, scale) for image in images] for _, images in rows], GAP)
        for _, rows in blocks
    ]
    width = wide + max(picture.shape[1] for picture in pictures)
    width = max(width, *(int(font.getlength(title)) + 2 * MARGIN for title, _ in blocks))
    height = sum(high + picture.shape[0] for picture in pictures)
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    top = 0
    for (title, rows), picture in zip(blocks, pictures, strict=True):
        pen.rectangle((0, top, width, top + high - 1), fill=TITLE_GROUND)
        pen.text((MARGIN, top + MARGIN), title, fill=INK, font=font)
        top += high
        canvas.paste(Image.fromarray(picture), (wide, top))
        row_height = (picture.shape[0] - GAP) // len(rows)
        for position, (label, _) in enumerate(rows):
            middle = top + position * row_height + row_height // 2
            pen.text((MARGIN, middle), label, fill=INK, font=font, anchor="lm")
        top += picture.shape[0]
    return np.asarray(canvas, dtype=np.uint8)


def make_preview(options: PreviewOptions, say: Callable[[str], None] = lambda _: None) -> Path:
    """Writes the contact sheet as PNG and returns its path."""
    out = require_local(options.out, "--out")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the sheet is a PNG: give a name that ends in .png")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: give a file name")
    dataset = open_dataset(options.data)
    categories = dataset.select(options.categories)
    model = source.locate(options.model)
    facts = source.describe(model)
    categories = source.as_trained(categories, facts)
    source.require_classes(options.model, facts, [category.name for category in categories])
    guidance = source.describe_guidance(options.guidance, options.model, facts)
    # Normal images first: a broken file is told before the model is loaded.
    normal = {c.name: _normal(c, options.columns, facts.resolution) for c in categories}
    if facts.health.get("passed") is not True:
        say(f"model {options.model} has not passed a health check: judge the s = 0 row yourself")
    generator = source.load(
        model,
        device=options.device,
        precision=options.precision,
        steps=options.steps,
        sampler=options.sampler,
        guidance=options.guidance,
        guidance_scale=options.guidance_scale,
    )
    blocks = []
    for category in categories:
        seeds = [image_seed(options.seed, category.key, i) for i in range(options.columns)]
        rows = [("normal", normal[category.name])]
        for strength in options.strengths:
            made = generator.images(category.name, seeds, [strength] * len(seeds))
            rows.append((f"s = {strength:g}", list(made)))
        blocks.append((category.key, rows))
        say(f"{category.key}: {len(seeds) * len(options.strengths)} images")
    title = f"{options.model}, {options.sampler}, {options.steps} steps, seed {options.seed}"
    if guidance:
        title += f", guided by {options.guidance} at {options.guidance_scale:g}"
    blocks = [(f"{name}   ({title})", rows) for name, rows in blocks]
    write_bytes(out, encode_png(sheet(blocks, options.scale), 6))
    return out
