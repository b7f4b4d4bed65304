"""A UNet2DModel's arithmetic for sampling: one timestep and one class a batch, no waste.

The weights, the blocks and their order are diffusers'; the results differ by rounding alone. What
is saved, beside a float32 loop over the same network:

- weights and activations lie in bf16 or fp16, the outermost convolutions alone in float32;
- the embedding is one row, and its scale and shift are folded into the norm's own;
- a convolution behind a nearest-neighbour upsampling is computed from the small image (36 taps
  a small pixel become 16): the four pixels that a tap finds equal share one summed weight;
- small channels-last group norms, for which torch has a slow path only, are spelt out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor
# torch's channels-last group norm is vectorised over channels from this size on only (CPU).
FAST_NORM_PIXELS = 1024


class LeanUNet(nn.Module):
    """Computes a UNet2DModel of the presets (or of ADM) for a batch of one timestep and class."""

    def __init__(self, unet: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.unet, self.dtype = unet, dtype
        for module in unet.modules():
            if isinstance(module, nn.Conv2d):
                # The first and the last one stay in float32: a few percent of the arithmetic, and
                # in bf16 more than half of the squared error.
                outer = module is unet.conv_in or module is unet.conv_out
                module.to(torch.float32 if outer else dtype).to(memory_format=torch.channels_last)
        self.fused = nn.ModuleDict()
        for name, module in list(unet.named_modules()):
            key = name.replace(".", "-")
            if hasattr(module, "to_q"):
                self.fused[key] = _joined_projections(module).to(dtype)
                module.to_out[0].to(dtype)
                module.lean_key = key
            elif getattr(module, "upsample", None) is not None and hasattr(module, "conv1"):
                conv = _folded_upsampling(module.conv1).to(dtype)
                self.fused[key] = conv.to(memory_format=torch.channels_last)
                module.lean_key = key

    def forward(self, x_BCHW: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Returns the network's output for x (B, C, H, W) at one timestep (1,) and class (1,)."""
        unet = self.unet
        row = unet.time_embedding(unet.time_proj(t).float()) + unet.class_embedding(label)
        row = functional.silu(row)
        x = unet.conv_in(x_BCHW.to(dtype=torch.float32, memory_format=torch.channels_last))
        x = x.to(self.dtype)
        skips = [x]
        for block in unet.down_blocks:
            attentions = getattr(block, "attentions", None)
            for i, residual in enumerate(block.resnets):
                x = self._residual(residual, x, row)
                if attentions is not None:
                    x = self._attention(attentions[i], x)
                skips.append(x)
            for residual in block.downsamplers or ():
                x = self._residual(residual, x, row)
                skips.append(x)
        x = self._residual(unet.mid_block.resnets[0], x, row)
        for attention, residual in zip(
            unet.mid_block.attentions, unet.mid_block.resnets[1:], strict=True
        ):
            x = self._residual(residual, self._attention(attention, x), row)
        for block in unet.up_blocks:
            attentions = getattr(block, "attentions", None)
            for i, residual in enumerate(block.resnets):
                x = self._residual(residual, torch.cat([x, skips.pop()], dim=1), row)
                if attentions is not None:
                    x = self._attention(attentions[i], x)
            for residual in _upsamplers(block):
                x = self._residual(residual, x, row)
        return unet.conv_out(_norm(x.float(), unet.conv_norm_out, activate=True))

    def _residual(self, block: Any, x: Tensor, row: Tensor) -> Tensor:
        h = _norm(x, block.norm1, activate=True)
        if block.upsample is not None:
            h = _interleave(self.fused[block.lean_key](h), h.shape)
        else:
            if block.downsample is not None:
                x, h = functional.avg_pool2d(x, 2), functional.avg_pool2d(h, 2)
            h = block.conv1(h)
        scale, shift = block.time_emb_proj(row)[0].chunk(2)
        h = block.conv2(_norm(h, block.norm2, 1.0 + scale, shift, activate=True))
        if block.upsample is not None:
            _unfolded(h, x.shape).add_(x[:, :, :, None, :, None])
            return h
        return h.add_(x if block.conv_shortcut is None else block.conv_shortcut(x))

    def _attention(self, block: Any, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        h = _norm(x, block.group_norm).permute(0, 2, 3, 1).reshape(batch, -1, channels)
        joined = self.fused[block.lean_key](h).view(batch, height * width, 3, block.heads, -1)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(query, key, value)
        h = block.to_out[0](h.transpose(1, 2).reshape(batch, height * width, -1))
        return x + h.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _upsamplers(block: Any) -> list[Any]:
    found = getattr(block, "upsamplers", None)
    return list(found) if found is not None else []


def _joined_projections(attention: Any) -> nn.Linear:
    """Returns query, key and value as one linear layer."""
    parts = (attention.to_q, attention.to_k, attention.to_v)
    joined = nn.Linear(parts[0].in_features, sum(p.out_features for p in parts))
    joined.weight = nn.Parameter(torch.cat([p.weight for p in parts]))
    joined.bias = nn.Parameter(torch.cat([p.bias for p in parts]))
    return joined.to(parts[0].weight.device)


def _folded_upsampling(conv: Any) -> nn.Conv2d:
    """Returns a 2 x 2 convolution whose four groups of channels are the four pixels of a fold.

    Along an axis the even pixel sees (i - 1, i) with taps (w0, w1 + w2), the odd one (i, i + 1)
    with (w0 + w1, w2).
    """
    weight = conv.weight.detach().float()
    rows = (
        torch.stack([weight[:, :, 0], weight[:, :, 1] + weight[:, :, 2]], dim=2),
        torch.stack([weight[:, :, 0] + weight[:, :, 1], weight[:, :, 2]], dim=2),
    )
    phases = []
    for row in rows:
        phases.append(torch.stack([row[..., 0], row[..., 1] + row[..., 2]], dim=3))
        phases.append(torch.stack([row[..., 0] + row[..., 1], row[..., 2]], dim=3))
    folded = nn.Conv2d(conv.in_channels, 4 * conv.out_channels, 2, padding=1)
    folded.weight = nn.Parameter(torch.cat(phases))
    folded.bias = nn.Parameter(conv.bias.detach().float().repeat(4))
    return folded.to(conv.weight.device)


def _unfolded(x: Tensor, small: torch.Size) -> Tensor:
    """Returns a view of (B, C, 2H, 2W) as (B, C, H, 2, W, 2)."""
    return x.unflatten(2, (small[2], 2)).unflatten(4, (small[3], 2))


def _interleave(phases: Tensor, small: torch.Size) -> Tensor:
    """Returns (B, C, 2H, 2W) from the four phases (B, 4C, H + 1, W + 1)."""
    batch, _, height, width = small
    channels = phases.shape[1] // 4
    out = torch.empty(
        (batch, channels, 2 * height, 2 * width),
        dtype=phases.dtype,
        device=phases.device,
        memory_format=torch.channels_last,
    )
    for i in range(4):
        a, b = divmod(i, 2)
        part = phases[:, i * channels : (i + 1) * channels, a : a + height, b : b + width]
        out[:, :, a::2, b::2] = part
    return out


def _norm(
    x: Tensor,
    norm: nn.GroupNorm,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    activate: bool = False,
) -> Tensor:
    """Returns group norm with an extra scale and shift (C,) folded in, and SiLU behind it."""
    weight: Tensor = norm.weight
    bias: Tensor = norm.bias
    if scale is not None and shift is not None:
        weight, bias = weight * scale, bias * scale + shift
    if x.device.type != "cpu" or x.shape[2] * x.shape[3] >= FAST_NORM_PIXELS:
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        h = _native_norm(x, norm.num_groups, weight, bias, norm.eps)
        return functional.silu(h, inplace=True) if activate else h
    return _small_norm(x, norm.num_groups, weight, bias, norm.eps, activate)


def _native_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Returns torch's group norm, of each image by itself where threads share a batch.

    On a CPU the threads split a channels-last batch in the middle of an image, whose sums would
    then depend on its place in the batch.
    """
    if x.device.type != "cpu" or len(x) == 1 or torch.get_num_threads() == 1:
        return functional.group_norm(x, groups, weight, bias, eps)
    h = torch.empty_like(x)
    for i in range(len(x)):
        h[i : i + 1] = functional.group_norm(x[i : i + 1], groups, weight, bias, eps)
    return h


def _small_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, activate: bool
) -> Tensor:
    batch, channels, height, width = x.shape
    h = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels).float()
    count = height * width * (channels // groups)
    total = h.sum(dim=1).view(batch, groups, -1).sum(dim=2) / count
    square = (h * h).sum(dim=1).view(batch, groups, -1).sum(dim=2) / count
    deviation = (square - total * total).clamp_(min=0.0).add_(eps).rsqrt_()
    each = channels // groups
    factor = deviation.repeat_interleave(each, dim=1) * weight
    offset = bias - total.repeat_interleave(each, dim=1) * factor
    h = torch.addcmul(offset[:, None], h, factor[:, None])
    h = functional.silu(h, inplace=True) if activate else h
    return h.to(x.dtype).view(batch, height, width, channels).permute(0, 3, 1, 2)
