"""A memory of normal features: the nearest one restores a feature, its distance is evidence.

The memory is a greedy coreset of normal features, as in PatchCore (Roth et al. 2022).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class Bank(nn.Module):
    """Normal features by row, with the training image that each is from."""

    members: Tensor
    images: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("members", torch.zeros(size, channels))
        self.register_buffer("images", torch.full((size,), -1, dtype=torch.int64))

    def forward(self, x_BCHW: Tensor, own_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns each feature's nearest member (B, C, H, W) and the distance to it (B, 1, H, W).

        Distances are root mean squares over channels. Images `own_B` of the training set do not
        meet their own members.
        """
        batch, channels, height, width = x_BCHW.shape
        rows = x_BCHW.permute(0, 2, 3, 1).reshape(batch, height * width, channels).float()
        if torch.compiler.is_exporting():  # which has no loop over an unknown number of images
            products = rows @ self.members.T
            index = (self.members.square().sum(1) - 2 * products).argmin(2)
        else:
            index = self._nearest(rows, own_B)
        found = functional.embedding(index, self.members)
        apart = (rows - found).square().mean(2).sqrt()
        shape = (batch, height, width)
        restored = found.reshape(*shape, channels).permute(0, 3, 1, 2)
        return restored, apart.reshape(batch, 1, height, width)

    def _nearest(self, rows_BNC: Tensor, own_B: Tensor | None) -> Tensor:
        """Returns the indices of the nearest members (B, N), image by image to save memory."""
        lengths, members = self.members.square().sum(1), self.members.T.contiguous()
        index = []
        device = "cpu" if rows_BNC.is_meta else rows_BNC.device.type
        with torch.autocast(device, enabled=False):
            for i, rows in enumerate(rows_BNC):
                bound = lengths
                if own_B is not None:
                    bound = lengths.masked_fill(self.images == own_B[i], math.inf)
                index.append(torch.addmm(bound, rows, members, alpha=-2).min(1).indices)
        return torch.stack(index)
