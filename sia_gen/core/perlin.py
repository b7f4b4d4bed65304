"""Perlin noise masks: irregular blotches of random scale and direction (DRAEM; RealNet Eq. 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sia_gen.core.images import Mask

THRESHOLD = 0.5
MAX_EXPONENT = 5  # lattice cells per axis: 2^0 .. 2^5
MIN_CELL = 8  # pixels a cell at the paper's 256 x 256; smaller blotches are specks, not regions


def _fade(t: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return t * t * t * (t * (t * 6 - 15) + 10)


def noise(size: int, cells: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Returns Perlin noise, float32 (size, size), scaled by sqrt(2); cells per axis (y, x)."""
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    gradient_y, gradient_x = np.sin(angles), np.cos(angles)
    y = np.arange(size, dtype=np.float32) * np.float32(cells[0] / size)
    x = np.arange(size, dtype=np.float32) * np.float32(cells[1] / size)
    cell_y, cell_x = y.astype(np.intp), x.astype(np.intp)
    within_y, within_x = (y - cell_y)[:, None], (x - cell_x)[None, :]

    def corner(dy: int, dx: int) -> npt.NDArray[np.float32]:
        at = np.ix_(cell_y + dy, cell_x + dx)
        return gradient_y[at] * (within_y - dy) + gradient_x[at] * (within_x - dx)

    fade_y, fade_x = _fade(within_y), _fade(within_x)
    top = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    bottom = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    return np.float32(np.sqrt(2)) * (top + fade_y * (bottom - top))


def mask(size: int, rng: np.random.Generator) -> Mask:
    """Returns a random mask, bool (size, size): noise of random scale, rotated, above 0.5.

    Both scale exponents are uniform in 0..5 and the rotation uniform in [-90, 90] degrees; what
    turns in from outside is empty. The mask can come out empty: the sample is then a normal one.
    Below 256 pixels the largest exponent falls, so that cells keep the 8 pixels they have there.
    """
    largest = min(MAX_EXPONENT, max(0, (size // MIN_CELL).bit_length() - 1))
    cells = tuple(int(2**k) for k in rng.integers(0, largest + 1, 2))
    field = noise(size, (cells[0], cells[1]), rng)
    angle = np.deg2rad(rng.uniform(-90, 90))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.full(2, (size - 1) / 2)
    rotated = ndimage.affine_transform(field, turn, centre - turn @ centre, order=1)
    return np.asarray(rotated > THRESHOLD)
