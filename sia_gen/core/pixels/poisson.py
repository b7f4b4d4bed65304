"""Poisson image editing: a patch keeps its gradients and takes on the tone of its surroundings."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from sia_gen.core.pixels.images import Mask

Field = npt.NDArray[np.float32]
TOLERANCE = 0.05  # grey levels: the largest correction of the last iteration
MAX_ITERATIONS = 200


@functools.lru_cache(maxsize=4096)
def _eigenvalues(count: int) -> npt.NDArray[np.float32]:
    """Returns the eigenvalues of the second difference with fixed ends, (count,)."""
    steps = np.arange(1, count + 1)
    return np.asarray(2.0 - 2.0 * np.cos(np.pi * steps / (count + 1)), dtype=np.float32)


def _solve_rectangle(right_hwc: Field) -> Field:
    """Returns u with 4 u - (its four neighbours) = right and u = 0 around, by sine transforms."""
    height, width = right_hwc.shape[:2]
    scale = _eigenvalues(height)[:, None] + _eigenvalues(width)[None, :]
    modes = fft.dstn(right_hwc, type=1, axes=(0, 1), norm="ortho") / scale[..., None]
    return np.asarray(fft.dstn(modes, type=1, axes=(0, 1), norm="ortho"), dtype=np.float32)


def _laplace(u_hwc: Field) -> Field:
    """Returns 4 u - (its four neighbours), with u = 0 around."""
    result = 4 * u_hwc
    result[1:] -= u_hwc[:-1]
    result[:-1] -= u_hwc[1:]
    result[:, 1:] -= u_hwc[:, :-1]
    result[:, :-1] -= u_hwc[:, 1:]
    return result


def _solve(right_hwc: Field, inside_hw: Mask) -> Field:
    """Returns the solution on the pixels inside, with u = 0 on all others.

    Conjugate gradients; the rectangle's exact solution is the preconditioner, so that a mask that
    is one needs a single step and others a few dozen.
    """
    if inside_hw.all():
        return _solve_rectangle(right_hwc)
    inside = inside_hw[..., None].astype(np.float32)
    u = np.zeros_like(right_hwc)
    residual = right_hwc * inside
    guess = _solve_rectangle(residual) * inside
    direction, product = guess, float((residual * guess).sum())
    for _ in range(MAX_ITERATIONS):
        if product <= 0:
            break
        image = _laplace(direction) * inside
        step = product / float((direction * image).sum())
        u += step * direction
        residual -= step * image
        guess = _solve_rectangle(residual) * inside
        if float(np.abs(guess).max()) < TOLERANCE:
            u += guess
            break
        following = float((residual * guess).sum())
        direction = guess + (following / product) * direction
        product = following
    return u


def clone(
    target_HWC: npt.NDArray[np.generic],
    source_HWC: npt.NDArray[np.generic],
    mask_HW: Mask,
    *,
    mixed: bool,
    margin: int = 0,
) -> Field:
    """Returns target with source blended in on the mask, float32 (H, W, C), not clipped.

    On the mask the Laplacian is that of the source and the values next to it are the target's
    (Perez et al. 2003). `mixed` takes at each edge between neighbours the stronger of the two
    gradients, so that the target's texture stays where the source has none. On the outer `margin`
    pixels of the mask the target's gradients are kept (OpenCV's seamlessClone does so on 3): an
    edge that the source happens to have there would else become a ramp across the patch. The mask's
    pixels on the border of the array are left alone: they have no neighbours to take their tone
    from.
    """
    result = np.array(target_HWC, dtype=np.float32)
    inside = mask_HW.copy()
    inside[0] = inside[-1] = False
    inside[:, 0] = inside[:, -1] = False
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return result
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    frame = (slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2))
    target = result[frame]
    source = np.asarray(source_HWC[frame], dtype=np.float32)
    down, right = np.diff(source, axis=0), np.diff(source, axis=1)
    own_down, own_right = np.diff(target, axis=0), np.diff(target, axis=1)
    if mixed:
        down = np.where(np.abs(own_down) > np.abs(down), own_down, down)
        right = np.where(np.abs(own_right) > np.abs(right), own_right, right)
    if margin:
        core = ndimage.binary_erosion(inside[frame], np.ones((3, 3)), iterations=margin)[..., None]
        down = np.where(core[1:] & core[:-1], down, own_down)
        right = np.where(core[:, 1:] & core[:, :-1], right, own_right)
    divergence = np.diff(down[:, 1:-1], axis=0) + np.diff(right[1:-1], axis=1)
    # Solved for the difference to the target, which is zero outside the mask.
    own = (
        target[2:, 1:-1] + target[:-2, 1:-1] + target[1:-1, 2:] + target[1:-1, :-2]
    ) - 4 * target[1:-1, 1:-1]
    within = inside[box]
    correction = _solve((own - divergence) * within[..., None], within)
    result[box] += correction * within[..., None]
    return result
