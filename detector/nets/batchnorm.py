"""BatchNorm over the whole batch, also where several processes share it, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm whose statistics are those of all processes' images together.

    A batch shared by N processes then trains like the same batch in one. torch's own version of
    this works on GPUs only.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the normalised input, same shape and type."""
        shared = distributed.is_available() and distributed.is_initialized()
        if not self.training or not shared or distributed.get_world_size() == 1:
            return super().forward(x_BCHW)
        x = x_BCHW.float()
        axes = (0, 2, 3)
        # Images and height x width may differ in number between processes: sums, then one division.
        count = x.new_tensor([x.numel() / x.shape[1]])
        distributed.all_reduce(count)
        mean = _summed(x.sum(axes)) / count
        centred = x - mean[:, None, None]
        variance = _summed(centred.square().sum(axes)) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        result = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            result = result * self.weight[:, None, None] + self.bias[:, None, None]
        return result.to(x_BCHW.dtype)

    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            raise ValueError("a shared BatchNorm needs running statistics and a momentum")
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _Summed(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _summed(value: Tensor) -> Tensor:
    total: Tensor = _Summed.apply(value)
    return total
