"""A training step on a CPU without torch's slow paths: the same arithmetic, other kernels.

torch's backward pass of a channels-last group norm in bf16 takes a quarter of a training step, that
of its fused attention over a few dozen tokens a tenth. Here the norm's gradient is written as a few
passes over the whole tensor, and attention as plain matrix products (diffusers' AttnProcessor).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Tensor = torch.Tensor
# torch's forward pass of the norm is vectorised over channels from this size on only.
FAST_NORM_PIXELS = 1024


class _Norm(torch.autograd.Function):
    """Group norm of a channels-last tensor (B, C, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        batch, channels, height, width = x.shape
        pixels, each = height * width, channels // groups
        if pixels >= FAST_NORM_PIXELS:
            y, mean, inverse = torch.native_group_norm(
                x, weight.to(x.dtype), bias.to(x.dtype), batch, channels, pixels, groups, eps
            )
            mean, inverse = mean.float(), inverse.float()
        else:
            v = _rows(x)
            mean = _by_group(_sum(v), groups) / (pixels * each)
            square = _by_group(_sum(v * v), groups) / (pixels * each)
            inverse = (square - mean * mean).clamp_(min=0.0).add_(eps).rsqrt_()
            factor = inverse.repeat_interleave(each, 1) * weight
            offset = bias - mean.repeat_interleave(each, 1) * factor
            y = _image(torch.addcmul(_row(offset, v), v, _row(factor, v)), x.shape)
        ctx.save_for_backward(x, mean, inverse, weight)
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, weight = ctx.saved_tensors
        groups, each = ctx.groups, x.shape[1] // ctx.groups
        v, d = _rows(x), _rows(gradients[0])
        count = v.shape[1] * each
        mean, inverse = (s.repeat_interleave(each, 1) for s in (mean, inverse))
        plain = _sum(d)
        # The sum of gradient times normalised value, without making the normalised values.
        scaled = (_sum(d * v) - plain * mean) * inverse
        a = _by_group(plain * weight, groups).repeat_interleave(each, 1) / count
        b = _by_group(scaled * weight, groups).repeat_interleave(each, 1) / count
        # inverse * (weight d - a - b (v - mean) inverse), gathered by d and v
        slope = -inverse * inverse * b
        dx = torch.addcmul(_row(-inverse * a - slope * mean, v), d, _row(inverse * weight, v))
        dx.addcmul_(v, _row(slope, v))
        return _image(dx, x.shape), scaled.sum(0), plain.sum(0), None, None


def _rows(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.permute(0, 2, 3, 1).flatten(1, 2)


def _sum(rows: Tensor) -> Tensor:
    """Returns the sum over pixels (B, C), float32; a sum that casts would copy all of them."""
    part = 16 if rows.shape[1] % 16 == 0 else 1
    return rows.unflatten(1, (-1, part)).sum(2).sum(1, dtype=torch.float32)


def _image(rows: Tensor, shape: torch.Size) -> Tensor:
    return rows.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def _row(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, None]


def _by_group(values: Tensor, groups: int) -> Tensor:
    return values.view(len(values), groups, -1).sum(2)


class QuickGroupNorm(nn.GroupNorm):
    """nn.GroupNorm, quicker where it is slow: 16-bit images, channels-last, on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised x, as nn.GroupNorm does."""
        slow = x.ndim == 4 and x.device.type == "cpu" and x.dtype != torch.float32
        if slow and x.is_contiguous(memory_format=torch.channels_last):
            found: Tensor = _Norm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
            return found
        return super().forward(x)


def quicken(network: Any) -> None:
    """Gives a UNet2DModel the quick norms and plain attention, in place; its weights stay."""
    from diffusers.models.attention_processor import AttnProcessor

    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = QuickGroupNorm
        elif hasattr(module, "to_q") and hasattr(module, "set_processor"):
            module.set_processor(AttnProcessor())
