"""Heat maps that a person can read: the image, its scores in colour, and both together."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sia_gen.core.pixels.images import Array8
from sia_gen.core.pixels.masks import outlined

# Anchors of the colour map from normal to anomalous: dark blue, blue, green, yellow, red.
COLOURS = np.array(
    [[12, 16, 70], [38, 98, 190], [60, 180, 110], [250, 215, 60], [200, 24, 28]], dtype=np.float64
)
SUFFIX = ".jpg"
GAP = 4
WHITE = (255, 255, 255)
CAPTION = 14  # pixels above a picture


LEVELS = 1024  # steps of the colour scale


def _table() -> Array8:
    place = np.linspace(0, len(COLOURS) - 1, LEVELS)
    below = np.minimum(place.astype(np.intp), len(COLOURS) - 2)
    share = (place - below)[..., None]
    return np.rint(COLOURS[below] * (1 - share) + COLOURS[below + 1] * share).astype(np.uint8)


TABLE = _table()


def colourise(values_HW: npt.NDArray[np.float32]) -> Array8:
    """Returns scores in [0, 1] as uint8 colours (H, W, 3); values beyond are clipped."""
    places = np.clip(values_HW, 0, 1) * (LEVELS - 1) + 0.5
    return TABLE[places.astype(np.intp)]


def panel(image_HW3: Array8, map_HW: npt.NDArray[np.float32], threshold: float) -> Array8:
    """Returns input | heat | overlay side by side, uint8 (H, 3 W + 8, 3).

    Colours are scaled so that the decision's threshold is the middle of the scale: green and below
    is normal, yellow and red is not.
    """
    scaled = (map_HW / max(2 * threshold, 1e-6)).astype(np.float32)
    heat = colourise(scaled)
    weight = np.clip(scaled, 0.15, 0.75)[..., None]
    over = np.rint(image_HW3 * (1 - weight) + heat * weight).astype(np.uint8)
    over = outlined(over, map_HW > threshold, WHITE)
    gap = np.full((image_HW3.shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([image_HW3, gap, heat, gap, over], axis=1)


def captioned(picture_HW3: Array8, text: str) -> Array8:
    """Returns a picture with a white line of text above it."""
    line = Image.new("RGB", (picture_HW3.shape[1], CAPTION), "white")
    ImageDraw.Draw(line).text((2, 1), text, fill="black")
    return np.concatenate([np.asarray(line), picture_HW3], axis=0)


def encoded(picture_HW3: Array8) -> bytes:
    """Returns a picture as a file: JPEG, since PNG takes as long as the network and five times the
    room."""
    buffer = io.BytesIO()
    Image.fromarray(picture_HW3).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()
