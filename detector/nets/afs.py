"""Dimension reduction: which channels of a frozen backbone are kept for reconstruction.

AFS keeps the channels whose residual between an anomalous image and its normal image looks most
like the anomaly's mask (RealNet, Eq. 4). The ablations of Table 5a keep random channels (RDR) or
project all of them by a fixed random matrix (RLPR).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

MODES = ("afs", "rdr", "rlpr")
EPSILON = 1e-4  # of the min-max normalisation: a channel without residual stays at 0


def channel_losses(anomalous_BCHW: Tensor, normal_BCHW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Returns each channel's AFS loss on one batch of pairs, float64 (C,), in [0, 1] (Eq. 4).

    Squared residuals are min-max normalised per channel over the whole batch, and compared with
    the mask resized (nearest) to the features' resolution, as in the authors' code; the paper
    aligns the residual to the mask instead. A channel with NaN counts as the worst: infinite.
    """
    residual = (anomalous_BCHW.float() - normal_BCHW.float()).square()
    low = residual.amin(dim=(0, 2, 3), keepdim=True)
    high = residual.amax(dim=(0, 2, 3), keepdim=True)
    scaled = (residual - low) / (high - low + EPSILON)
    mask = functional.interpolate(mask_B1HW.float(), size=residual.shape[-2:], mode="nearest")
    losses = (scaled - mask).square().mean(dim=(0, 2, 3), dtype=torch.float64)
    return torch.where(losses.isnan(), math.inf, losses)


def smallest(losses_C: Tensor, keep: int) -> Tensor:
    """Returns the indices of the `keep` channels with the smallest loss, int64, ascending.

    Equal losses are settled by the lower index.
    """
    order = torch.sort(losses_C, stable=True).indices
    return order[:keep].sort().values


def random_subset(channels: int, keep: int, generator: torch.Generator) -> Tensor:
    """Returns `keep` different channel indices drawn at random, int64, ascending (RDR)."""
    return torch.randperm(channels, generator=generator)[:keep].sort().values


def random_projection(channels: int, keep: int, generator: torch.Generator) -> Tensor:
    """Returns a fixed random 1 x 1 projection, float32 (keep, channels) (RLPR).

    Its scale is that of an untrained convolution: uniform in +-1/sqrt(channels).
    """
    bound = 1.0 / math.sqrt(channels)
    return (torch.rand(keep, channels, generator=generator) * 2 - 1) * bound


class Reduction(nn.Module):
    """Reduces one layer's features to `keep` channels: a fixed choice, kept in the checkpoint.

    `scale` multiplies the kept channels; it is 1 unless features are standardised.
    """

    index: Tensor
    projection: Tensor
    scale: Tensor

    def __init__(self, channels: int, keep: int, mode: str) -> None:
        super().__init__()
        self.channels, self.keep, self.mode = channels, keep, mode
        if mode == "rlpr":
            self.register_buffer("projection", torch.zeros(keep, channels))
        else:
            self.register_buffer("index", torch.arange(keep))
        self.register_buffer("scale", torch.ones(keep))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the reduced features (B, keep, H, W)."""
        if self.mode == "rlpr":
            weight = self.projection[:, :, None, None].to(x_BCHW.dtype)
            kept = functional.conv2d(x_BCHW, weight)
        else:
            kept = x_BCHW.index_select(1, self.index)
        return kept * self.scale[:, None, None].to(kept.dtype)
