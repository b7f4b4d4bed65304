"""A whole image against all normal ones: what their principal components cannot say of it.

As in DFM (Ahuja et al. 2019) for whole images, with the residual kept place by place. It sees what
no patch shows, where images are aligned: a band, a missing part, another light.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

VARIANCE = 0.97  # of normal images' variance that the components keep


class WholeImage(nn.Module):
    """Mean and principal components of pooled features of whole images, (C, side, side) each."""

    mean: Tensor
    components: Tensor

    def __init__(self, channels: int, side: int, components: int) -> None:
        super().__init__()
        self.side = side
        size = channels * side * side
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("components", torch.zeros(components, size))

    def pooled(self, features_BCHW: Tensor) -> Tensor:
        """Returns features as the components take them, float32 (B, C x side x side)."""
        x = functional.adaptive_avg_pool2d(features_BCHW.float(), self.side)
        return x.flatten(1)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Returns the root mean square over channels of what is left, (B, 1, side, side)."""
        rows = self.pooled(features_BCHW) - self.mean
        device = "cpu" if rows.is_meta else rows.device.type
        with torch.autocast(device, enabled=False):
            left = rows - (rows @ self.components.T) @ self.components
        places = left.unflatten(1, (-1, self.side, self.side))
        return places.square().mean(1, keepdim=True).sqrt()


def fitted(pooled_ND: Tensor, channels: int, side: int) -> WholeImage:
    """Returns the components that keep 97 % of the variance of normal images' pooled features."""
    mean = pooled_ND.mean(0)
    _, sizes, axes = torch.linalg.svd(pooled_ND - mean, full_matrices=False)
    shares = sizes.square().cumsum(0) / sizes.square().sum().clamp_min(1e-12)
    count = min(int((shares < VARIANCE).sum()) + 1, len(axes))
    module = WholeImage(channels, side, count)
    module.mean.copy_(mean)
    module.components.copy_(axes[:count])
    return module
