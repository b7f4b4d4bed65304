"""A memory of normal features: the nearest one restores a feature, its distance is evidence.

The memory is a greedy coreset (k-centre) of all normal features, as in PatchCore (Roth et al.
2022): each next member is the feature that lies farthest from those chosen so far.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

CANDIDATES = 2048  # farthest features among which members are chosen before all are looked at
ROWS = 1 << 15  # features compared at a time


def squared_distances(x_NC: Tensor, y_MC: Tensor) -> Tensor:
    """Returns squared Euclidean distances (N, M), by one matrix product; never below 0."""
    products = x_NC @ y_MC.T
    lengths = x_NC.square().sum(1, keepdim=True) + y_MC.square().sum(1)
    return torch.addcmul(lengths, products, products.new_tensor(-2.0)).clamp_min_(0)


def greedy_coreset(x_NC: Tensor, count: int, candidates: int = CANDIDATES) -> Tensor:
    """Returns the indices of a greedy k-centre coreset in the order of choice, int64 (count,).

    The first member is the feature nearest to the mean. Choosing one member at a time needs a pass
    over all features for each. Here several are chosen between two passes: distances to the nearest
    member only shrink, so a candidate that is still farther than every feature outside the
    candidates was, is the farthest of all. The result is that of the plain way, up to rounding.
    """
    total = len(x_NC)
    count = min(count, total)
    first = int((x_NC - x_NC.mean(0)).square().sum(1).argmin())
    chosen = [first]
    nearest = _to_members(x_NC, x_NC[first : first + 1])
    while len(chosen) < count:
        values, index = nearest.topk(min(candidates + 1, total))
        outside = float(values[-1]) if len(values) > candidates else -1.0
        index, local = index[:candidates], values[:candidates].clone()
        among = squared_distances(x_NC[index], x_NC[index])
        fresh: list[int] = []
        while len(chosen) + len(fresh) < count:
            place = int(local.argmax())
            if fresh and not float(local[place]) > outside:
                break
            fresh.append(place)
            local = torch.minimum(local, among[place])
            local[place] = -1.0
        members = index[fresh]
        nearest = torch.minimum(nearest, _to_members(x_NC, x_NC[members]))
        nearest[members] = -1.0
        chosen += members.tolist()
    return torch.tensor(chosen)


def _to_members(x_NC: Tensor, members_KC: Tensor) -> Tensor:
    parts = [squared_distances(part, members_KC).amin(1) for part in x_NC.split(ROWS)]
    return torch.cat(parts)


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
        lengths = self.members.square().sum(1)
        index = []
        with torch.autocast(rows_BNC.device.type, enabled=False):
            for i, rows in enumerate(rows_BNC):
                bound = lengths
                if own_B is not None:
                    bound = lengths.masked_fill(self.images == own_B[i], math.inf)
                index.append(torch.addmm(bound, rows, self.members.T, alpha=-2).argmin(1))
        return torch.stack(index)
