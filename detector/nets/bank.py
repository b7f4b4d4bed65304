"""A memory of normal features: the nearest one restores a feature, its distance is evidence.

The memory is a greedy coreset of normal features, as in PatchCore (Roth et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class Bank(nn.Module):
    """Normal features by row, with the training images that they are from.

    `groups` are the numbers of channels that are remembered together: with several, a row holds
    members of several memories, which have nothing to do with each other.
    """

    members: Tensor
    images: Tensor

    def __init__(self, size: int, groups: Sequence[int]) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.register_buffer("members", torch.zeros(size, sum(groups)))
        self.register_buffer("images", torch.full((size, len(groups)), -1, dtype=torch.int64))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Reads a checkpoint of before too, when there was one memory and no groups."""
        images = state_dict.get(f"{prefix}images")
        if images is not None and images.ndim == 1:
            state_dict[f"{prefix}images"] = images[:, None]
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, x_BCHW: Tensor, own_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns each feature's nearest member (B, C, H, W) and distances to it (B, G, H, W).

        Distances are root mean squares over the channels of a group. Images `own_B` of the
        training set do not meet their own members.
        """
        found = [
            self._nearest(x, members, images, own_B)
            for x, members, images in zip(
                x_BCHW.split(self.groups, 1),
                self.members.split(self.groups, 1),
                self.images.unbind(1),
                strict=True,
            )
        ]
        restored, apart = zip(*found, strict=True)
        return torch.cat(restored, 1), torch.cat(apart, 1)

    def _nearest(
        self, x_BCHW: Tensor, members_MC: Tensor, images_M: Tensor, own_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = x_BCHW.shape
        rows = x_BCHW.permute(0, 2, 3, 1).reshape(batch, height * width, channels).float()
        if torch.compiler.is_exporting():  # which has no loop over an unknown number of images
            products = rows @ members_MC.T
            index = (members_MC.square().sum(1) - 2 * products).argmin(2)
        else:
            index = _indices(rows, members_MC, images_M, own_B)
        found = functional.embedding(index, members_MC)
        apart = (rows - found).square().mean(2).sqrt()
        shape = (batch, height, width)
        restored = found.reshape(*shape, channels).permute(0, 3, 1, 2)
        return restored, apart.reshape(batch, 1, height, width)


def _indices(
    rows_BNC: Tensor, members_MC: Tensor, images_M: Tensor, own_B: Tensor | None
) -> Tensor:
    """Returns the indices of the nearest members (B, N), image by image to save memory."""
    lengths, members = members_MC.square().sum(1), members_MC.T.contiguous()
    index = []
    device = "cpu" if rows_BNC.is_meta else rows_BNC.device.type
    with torch.autocast(device, enabled=False):
        for i, rows in enumerate(rows_BNC):
            bound = lengths
            if own_B is not None:
                bound = lengths.masked_fill(images_M == own_B[i], math.inf)
            index.append(torch.addmm(bound, rows, members, alpha=-2).min(1).indices)
    return torch.stack(index)
