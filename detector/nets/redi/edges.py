"""Edge maps of gray images: Sobel, Roberts and Canny, the rivals of HOG (ReDi, Sec. 4.3.1).

Sobel and Roberts are magnitudes of gradients. Canny follows OpenCV's algorithm step by step
(3 x 3 Sobel in integers, |gx| + |gy|, suppression in four sectors, hysteresis over 8 neighbours).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from scipy import ndimage
from torch import Tensor

TANGENT_22 = 13573  # tan(22.5 degrees) in units of 2^-15, the sectors' border


def _filtered(gray_B1HW: Tensor, kernels: list[list[list[float]]]) -> tuple[Tensor, Tensor]:
    size = len(kernels[0])
    before = (size - 1) // 2
    padded = functional.pad(gray_B1HW, (before, size - 1 - before) * 2, mode="replicate")
    weight = torch.tensor(kernels, dtype=gray_B1HW.dtype, device=gray_B1HW.device)[:, None]
    found = functional.conv2d(padded, weight)
    return found[:, :1], found[:, 1:]


def sobel(gray_B1HW: Tensor) -> Tensor:
    """Returns the gradient's magnitude by 3 x 3 Sobel filters, (B, 1, H, W)."""
    across = [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
    down = [list(column) for column in zip(*across, strict=True)]
    return torch.hypot(*_filtered(gray_B1HW, [across, down]))


def roberts(gray_B1HW: Tensor) -> Tensor:
    """Returns the magnitude of two diagonal differences, the paper's templates, (B, 1, H, W)."""
    falling, rising = [[-1.0, 0.0], [0.0, 1.0]], [[0.0, -1.0], [1.0, 0.0]]
    return torch.hypot(*_filtered(gray_B1HW, [falling, rising]))


def canny(gray_HW: npt.NDArray[np.uint8], low: int, high: int) -> npt.NDArray[np.bool_]:
    """Returns where a uint8 image has edges, bool (H, W), by OpenCV's Canny of aperture 3."""
    x = gray_HW.astype(np.int32)
    across = ndimage.correlate(x, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), mode="nearest")
    down = ndimage.correlate(x, np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]), mode="nearest")
    padded = np.pad(np.abs(across) + np.abs(down), 1)
    height, width = x.shape

    def at(rows: int, columns: int) -> npt.NDArray[np.int32]:
        return padded[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    here = at(0, 0)
    rise, run = np.abs(down).astype(np.int64) << 15, np.abs(across).astype(np.int64)
    flat = rise < run * TANGENT_22
    steep = rise > run * TANGENT_22 + (run << 16)
    falling = (across ^ down) < 0
    diagonal = np.where(
        falling, (here > at(-1, 1)) & (here > at(1, -1)), (here > at(-1, -1)) & (here > at(1, 1))
    )
    ridge = np.where(
        flat,
        (here > at(0, -1)) & (here >= at(0, 1)),
        np.where(steep, (here > at(-1, 0)) & (here >= at(1, 0)), diagonal),
    )
    candidates = ridge & (here > low)
    regions, count = ndimage.label(candidates, np.ones((3, 3)))
    strong = np.zeros(count + 1, dtype=np.bool_)
    strong[regions[candidates & (here > high)]] = True
    strong[0] = False
    return strong[regions]


def canny_batch(gray_B1HW: Tensor, low: int, high: int) -> Tensor:
    """Returns Canny edges of gray images in [0, 1], 0 or 1, (B, 1, H, W); works on the CPU."""
    images = gray_B1HW.mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    edges = np.stack([canny(image, low, high) for image in images[:, 0]])
    return torch.from_numpy(edges).to(gray_B1HW)[:, None]
