"""Contact sheets: rows of images under a title, each row with its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sia_gen.core.pixels.images import Array8, grid

GAP = 2
MARGIN = 6  # pixels around a label
INK, TITLE_GROUND = (20, 20, 20), (228, 232, 238)


def _enlarge(image: Array8, scale: int) -> Array8:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


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
