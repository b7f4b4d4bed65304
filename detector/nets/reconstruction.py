"""Reconstruction networks: they restore an anomalous image's normal features (RealNet, Eq. 5).

`unet` is the paper's, `plain` a small one without skip connections for models of many categories:
there a U-Net's skips carry the anomaly through to the output.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

KINDS = ("unet", "plain")
LEVELS = (1, 2, 4)  # widths, as multiples of the first level's
ATTENTION_FACTORS = (2, 4)  # down-sampling factors at which positions attend to each other
HEAD_CHANNELS = 64
Resample = Literal["down", "up"]


def normalisation(channels: int) -> nn.GroupNorm:
    """Returns a GroupNorm of 32 groups; in narrow layers of fewer, with 4 channels or more each.

    A group of one channel would wipe out each image's level of that channel, which is what is to
    be reconstructed.
    """
    least = 1 if channels >= 64 else 4
    groups = [g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels // g >= least]
    return nn.GroupNorm(groups[0] if groups else 1, channels)


def _resampling(channels: int, resample: Resample | None) -> nn.Module:
    if resample == "down":
        return nn.AvgPool2d(2)
    if resample == "up":
        return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
    return nn.Identity()


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU and one convolution beside a shortcut; no time embedding.

    A block that changes the resolution resamples both of its branches, each with a layer of its
    own: two transposed convolutions on the way up (ADM's residual up- and down-sampling).
    """

    def __init__(self, inputs: int, outputs: int, resample: Resample | None = None) -> None:
        super().__init__()
        self.norm = normalisation(inputs)
        self.resample = _resampling(inputs, resample)
        self.resample_shortcut = _resampling(inputs, resample)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns (B, outputs, H, W), with H and W halved or doubled by a resampling block."""
        inner = self.conv(self.resample(functional.silu(self.norm(x_BCHW))))
        outer: Tensor = self.shortcut(self.resample_shortcut(x_BCHW))
        return outer + inner


class Attention(nn.Module):
    """Self-attention over all positions, in heads of 64 channels; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        most = max(1, channels // HEAD_CHANNELS)
        self.heads = next(heads for heads in range(most, 0, -1) if channels % heads == 0)
        self.norm = normalisation(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the input plus what each position gathered from the others, same shape."""
        batch, channels, height, width = x_BCHW.shape
        tokens_BNC = self.norm(x_BCHW).flatten(2).transpose(1, 2)
        parts = self.qkv(tokens_BNC).reshape(batch, height * width, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value)
        gathered = self.out(seen.transpose(1, 2).reshape(batch, height * width, channels))
        return x_BCHW + gathered.transpose(1, 2).reshape(x_BCHW.shape)


class ReconstructionUNet(nn.Module):
    """Maps features of an anomalous image to those of its normal image, (B, C, H, W) to the same.

    Widths are half of the block's channels times (1, 2, 4) (RealNet, appendix C.4; code). H and W
    must be multiples of 4. The last convolution starts at zero. Fewer residual blocks a level than
    the paper's 2, or no attention, make a smaller network for a smaller budget.
    """

    downsampling = 2 ** (len(LEVELS) - 1)

    def __init__(self, channels: int, blocks: int = 2, attention: bool = True) -> None:
        super().__init__()
        factors = ATTENTION_FACTORS if attention else ()
        first = channels // 2
        if first < 1:
            raise ValueError(f"a reconstruction block needs at least 2 channels, not {channels}")
        self.enter = nn.Conv2d(channels, first, 3, padding=1)
        self.down = nn.ModuleList()
        skips = [first]
        width, factor = first, 1
        for level, multiple in enumerate(LEVELS):
            for _ in range(blocks):
                self.down.append(_stage(width, first * multiple, factor in factors))
                width = first * multiple
                skips.append(width)
            if level < len(LEVELS) - 1:
                self.down.append(ResidualBlock(width, width, "down"))
                skips.append(width)
                factor *= 2
        self.middle = _stage(width, width, attention)
        self.middle.append(ResidualBlock(width, width))
        self.up = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(LEVELS))):
            for block in range(blocks + 1):
                stage = _stage(width + skips.pop(), first * multiple, factor in factors)
                width = first * multiple
                if level > 0 and block == blocks:
                    stage.append(ResidualBlock(width, width, "up"))
                    factor //= 2
                self.up.append(stage)
        self.leave = nn.Sequential(
            normalisation(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)
        )
        for parameter in self.leave[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the reconstructed features, same shape."""
        x = self.enter(x_BCHW)
        kept = [x]
        for stage in self.down:
            x = stage(x)
            kept.append(x)
        x = self.middle(x)
        for stage in self.up:
            x = stage(torch.cat([x, kept.pop()], dim=1))
        return self.leave(x)


class PlainNetwork(nn.Module):
    """Convolutions down to half the resolution and back, (B, C, H, W) to the same; no skips.

    H and W must be even. The last convolution starts at zero, as the U-Net's does.
    """

    downsampling = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(1, channels // 2)
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            ResidualBlock(width, width),
            ResidualBlock(width, width, "down"),
            ResidualBlock(width, width),
            ResidualBlock(width, width),
            ResidualBlock(width, width, "up"),
            normalisation(width),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the reconstructed features, same shape."""
        restored: Tensor = self.body(x_BCHW)
        return restored


def _stage(inputs: int, outputs: int, attention: bool) -> nn.Sequential:
    stage = nn.Sequential(ResidualBlock(inputs, outputs))
    if attention:
        stage.append(Attention(outputs))
    return stage
