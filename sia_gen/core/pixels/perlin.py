"""Perlin noise masks: irregular blotches of random scale and direction (DRAEM; RealNet Eq. 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from sia_gen.core.pixels.images import Mask

THRESHOLD = 0.5
MAX_EXPONENT = 5  # lattice cells per axis: 2^0 .. 2^5
MIN_CELL = 8  # pixels a cell at the paper's 256 x 256; smaller blotches are specks, not regions


def _fade(t: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return t * t * t * (t * (t * 6 - 15) + 10)


def _weights(size: int, cells: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns one axis's weights of lattice points at pixels, (size, cells + 1) each.

    The first are the faded weights, the second those times the distance to the lattice point.
    """
    at = np.arange(size, dtype=np.float32) * np.float32(cells / size)
    cell = at.astype(np.intp)
    within = at - cell
    fade = _fade(within)
    pixel = np.arange(size)
    plain = np.zeros((size, cells + 1), dtype=np.float32)
    far = np.zeros_like(plain)
    plain[pixel, cell], plain[pixel, cell + 1] = 1 - fade, fade
    far[pixel, cell], far[pixel, cell + 1] = (1 - fade) * within, fade * (within - 1)
    return plain, far


def noise(size: int, cells: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Returns Perlin noise, float32 (size, size), scaled by sqrt(2); cells per axis (y, x).

    A pixel's value is the faded sum over its four lattice points of gradient times distance. Both
    the fading and the two parts of the distance belong to one axis each, so that the whole image
    is a product of matrices.
    """
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    plain_y, far_y = _weights(size, cells[0])
    plain_x, far_x = _weights(size, cells[1])
    left = np.concatenate([far_y @ np.sin(angles), plain_y @ np.cos(angles)], axis=1)
    right = np.concatenate([plain_x, far_x], axis=1)
    return np.float32(np.sqrt(2)) * (left @ right.T)


def mask(size: int, rng: np.random.Generator) -> Mask:
    """Returns a random mask, bool (size, size): noise of random scale, rotated, above 0.5.

    Both scale exponents are uniform in 0..5 and the rotation uniform in [-90, 90] degrees; what
    turns in from outside is empty. The mask can come out empty: the sample is then a normal one.
    Below 256 pixels the largest exponent falls, so that cells keep the 8 pixels they have there.
    """
    largest = min(MAX_EXPONENT, max(0, (size // MIN_CELL).bit_length() - 1))
    cells = tuple(int(2**k) for k in rng.integers(0, largest + 1, 2))
    field = noise(size, (cells[0], cells[1]), rng)
    angle = float(rng.uniform(-90, 90))
    rotated = Image.fromarray(field).rotate(-angle, Image.Resampling.BILINEAR)
    return np.asarray(np.asarray(rotated) > THRESHOLD)
