"""How far the recovered features are from the reference: losses (Eqs. 6-8) and maps (Eq. 10)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor

COSINES = ("global", "regional")
NORMALISATIONS = ("channel", "spatial", "l2", "none")
# Under the root, whose slope at 0 is infinite. Far below the square of any norm that matters.
TINY = 1e-20


def cosine_loss(reference: list[Tensor], recovered: list[Tensor], form: str) -> Tensor:
    """Returns 1 - cosine, the mean over layers and images (Eq. 6).

    `global` takes one cosine for a layer's whole map, as the public code of RD does; `regional` is
    the mean of one cosine at each location.
    """
    losses = []
    for x, y in zip(reference, recovered, strict=True):
        if form == "global":
            x, y = x.flatten(1), y.flatten(1)
        losses.append((1 - functional.cosine_similarity(x.float(), y.float(), dim=1)).mean())
    return torch.stack(losses).mean()


def normalised(x_BCHW: Tensor, how: str) -> Tensor:
    """Returns features as columns (B, C, HW), normalised over channels, over places, or not."""
    x = x_BCHW.float().flatten(2)
    if how == "channel":
        return x.softmax(dim=1)
    if how == "spatial":
        return x.softmax(dim=2)
    return functional.normalize(x, dim=1) if how == "l2" else x


def gram_distance(a_BCN: Tensor, b_BCN: Tensor) -> Tensor:
    """Returns |A^T A - B^T B|_F^2 of each image, (B,), by the smaller of two exact forms.

    With S = A + B and D = A - B the difference is (S^T D + D^T S) / 2, of N x N, and its square
    norm half of <S S^T, D D^T> + tr((D S^T)^2), of C x C. Both stay exact where A and B are alike;
    the products of A and B themselves would lose everything to cancellation.
    """
    channels, places = a_BCN.shape[1:]
    sums, differences = a_BCN + b_BCN, a_BCN - b_BCN
    if channels >= places:
        cross = sums.mT @ differences
        return (0.5 * (cross + cross.mT)).square().sum((1, 2))
    cross = differences @ sums.mT
    first = ((sums @ sums.mT) * (differences @ differences.mT)).sum((1, 2))
    return 0.5 * (first + (cross * cross.mT).sum((1, 2))).clamp_min(0)


def correlation_loss(reference: list[Tensor], recovered: list[Tensor], how: str) -> Tensor:
    """Returns the distance of self-correlations, the mean over layers and images (Eqs. 7, 8).

    The Frobenius norm is taken as it stands: its mean square would be a millionth of Eq. 6.
    """
    device = reference[0].device.type
    with torch.autocast(device, enabled=False):
        norms = [
            (gram_distance(normalised(x, how), normalised(y, how)) + TINY).sqrt().mean()
            for x, y in zip(reference, recovered, strict=True)
        ]
    return torch.stack(norms).mean()


def layer_maps(reference: list[Tensor], recovered: list[Tensor], size: int) -> Tensor:
    """Returns 1 - cosine at each location, one map a layer at image size, (B, n, R, R)."""
    maps = []
    for x, y in zip(reference, recovered, strict=True):
        distance = 1 - functional.cosine_similarity(x.float(), y.float(), dim=1)
        maps.append(
            functional.interpolate(
                distance[:, None], size=(size, size), mode="bilinear", align_corners=True
            )
        )
    return torch.cat(maps, dim=1)


def smooth(maps_BCHW: Tensor, sigma: float) -> Tensor:
    """Returns maps after a Gaussian of 4 sigma on either side, mirrored at the border.

    The same as scipy.ndimage.gaussian_filter with its defaults.
    """
    if sigma == 0:
        return maps_BCHW
    radius = math.floor(4 * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (steps / sigma).square())
    kernel = (weights / weights.sum()).to(maps_BCHW)
    for axis in (2, 3):
        count = maps_BCHW.shape[axis]
        places = torch.arange(-radius, count + radius, device=maps_BCHW.device) % (2 * count)
        mirrored = torch.where(places < count, places, 2 * count - 1 - places)
        padded = maps_BCHW.index_select(axis, mirrored)
        shape = (-1, 1, padded.shape[2], padded.shape[3])
        filtered = functional.conv2d(
            padded.reshape(shape), kernel.view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        )
        maps_BCHW = filtered.reshape(maps_BCHW.shape)
    return maps_BCHW
