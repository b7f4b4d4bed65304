"""The recover network's loss: squared error and multi-scale gradient magnitude similarity (Eq. 4).

MSGMS after RIAD: the mean of colours, a 3 x 3 median, Prewitt gradients, compared at four scales.
The median is blind to lines of one pixel, and a magnitude to its direction: a network that cannot
know a faint line's sign may then fill in whatever pattern has gradients of that size. `directions`
compares gradients down and across apart, without a median.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

CONTRAST = 0.0026  # the constant of GMS, made for images in [0, 1]
SCALES = 4
KINDS = ("median", "directions")
TINY = 1e-12  # under the root, whose slope at 0 is infinite: flat regions are exactly 0


def _sorted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.minimum(a, b), torch.maximum(a, b)


def _sorted3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = _sorted(a, b)
    b, c = _sorted(b, c)
    a, b = _sorted(a, b)
    return a, b, c


def median3(x_BCHW: Tensor) -> Tensor:
    """Returns 3 x 3 medians, border pixels repeated; by a sorting network, not by sorting."""
    rows = functional.pad(x_BCHW, (1, 1, 1, 1), mode="replicate")
    low, middle, high = _sorted3(rows[..., :-2, :], rows[..., 1:-1, :], rows[..., 2:, :])
    columns = [(x[..., :-2], x[..., 1:-1], x[..., 2:]) for x in (low, middle, high)]
    lowest = torch.maximum(torch.maximum(columns[0][0], columns[0][1]), columns[0][2])
    medium = _sorted3(*columns[1])[1]
    highest = torch.minimum(torch.minimum(columns[2][0], columns[2][1]), columns[2][2])
    return _sorted3(lowest, medium, highest)[1]


def _prewitt(gray_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Returns gradients down and across, each (B, 1, H - 2, W - 2)."""
    down = gray_B1HW[..., 2:, :] - gray_B1HW[..., :-2, :]
    across = gray_B1HW[..., 2:] - gray_B1HW[..., :-2]
    rows = (down[..., :-2] + down[..., 1:-1] + down[..., 2:]) / 3
    columns = (across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]) / 3
    return rows, columns


def gradient_sizes(gray_B1HW: Tensor, kind: str = "median") -> list[Tensor]:
    """Returns what of an image is compared at one scale, >= 0, each (B, 1, H - 2, W - 2).

    `median`: the gradient's magnitude after a 3 x 3 median, as RIAD has it. `directions`: its
    sizes down and across, of the image itself.
    """
    if kind == "directions":
        return [gradient.abs() for gradient in _prewitt(gray_B1HW)]
    rows, columns = _prewitt(median3(gray_B1HW))
    return [(rows.square() + columns.square() + TINY).sqrt()]


def msgms_loss(x_B3HW: Tensor, y_B3HW: Tensor, kind: str = "median") -> Tensor:
    """Returns 1 - MSGMS of two batches in [0, 1], a mean over scales, images and places."""
    x, y = x_B3HW.mean(1, keepdim=True), y_B3HW.mean(1, keepdim=True)
    total = torch.zeros((), device=x.device)
    scales = [scale for scale in range(SCALES) if min(x.shape[-2:]) >> scale >= 3]
    for scale in scales:
        if scale:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        pairs = list(zip(gradient_sizes(x, kind), gradient_sizes(y, kind), strict=True))
        for a, b in pairs:
            alike = (2 * a * b + CONTRAST) / (a.square() + b.square() + CONTRAST)
            total = total + (1 - alike).mean() / len(pairs)
    return total / len(scales)
