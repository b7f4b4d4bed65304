"""Feature aggregation and Feature Recovery Block: RD's bottleneck and decoder, any backbone.

The layers are brought to the scale of the deepest, joined, squeezed to half that scale, and grown
back layer by layer. With the layers 1, 2, 3 of wide_resnet50_2 it has 83.81 M parameters: the
width is RD's own, twice that of some re-implementations.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from sia_gen.core.errors import UserError


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class _Bottleneck(nn.Module):
    """A residual block 1 x 1, 3 x 3, 1 x 1 that halves, keeps or doubles the resolution."""

    def __init__(
        self, inputs: int, outputs: int, *, down: int = 1, up: int = 1, end: bool = True
    ) -> None:
        super().__init__()
        width = max(outputs // 2, 1)
        self.reduce = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        middle: nn.Module = _conv3(width, width, down)
        shortcut: nn.Module = nn.Conv2d(inputs, outputs, 1, down, bias=False)
        if up > 1:
            middle = nn.ConvTranspose2d(width, width, up, up, bias=False)
            shortcut = nn.ConvTranspose2d(inputs, outputs, up, up, bias=False)
        self.middle = nn.Sequential(middle, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.expand = nn.Sequential(
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or down > 1 or up > 1:
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))
        self.end = nn.ReLU(inplace=True) if end else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        found: Tensor = self.end(
            self.expand(self.middle(self.reduce(x_BCHW))) + self.shortcut(x_BCHW)
        )
        return found


def _ratios(strides: list[int]) -> list[int]:
    ratios = [b // a for a, b in itertools.pairwise(strides)]
    if any(ratio not in {1, 2} for ratio in ratios):
        raise UserError(
            f"feature layers of strides {strides}: each must be the one before or twice that;"
            " choose layers that follow each other"
        )
    return ratios


class Aggregation(nn.Module):
    """All layers at half the deepest one's scale: 3 x 3 convolutions down, joined, then residual
    blocks (Eq. 5)."""

    def __init__(self, channels: list[int], strides: list[int], blocks: int) -> None:
        super().__init__()
        ratios = _ratios(strides)
        self.chains = nn.ModuleList()
        for i in range(len(channels)):
            chain: list[nn.Module] = []
            for k in range(i, len(channels) - 1):
                width = channels[k + 1]
                chain += [_conv3(channels[k], width, ratios[k]), nn.BatchNorm2d(width)]
                chain.append(nn.ReLU(inplace=True))
            self.chains.append(nn.Sequential(*chain))
        deepest = channels[-1]
        joined = [_Bottleneck(deepest * len(channels), 2 * deepest, down=2)]
        joined += [_Bottleneck(2 * deepest, 2 * deepest) for _ in range(blocks - 1)]
        self.blocks = nn.Sequential(*joined)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Returns one map (B, 2 C_n, h / 2, w / 2) from the layers, finest first."""
        brought = [chain(x) for chain, x in zip(self.chains, features, strict=True)]
        found: Tensor = self.blocks(torch.cat(brought, dim=1))
        return found


class RecoveryBlock(nn.Module):
    """From features of the recovered image to features that shall equal the reference's.

    Its layers end in a ReLU as a ResNet's do; `linear` leaves it out where features may be
    negative, since a ReLU could never reach them.
    """

    def __init__(
        self,
        channels: list[int],
        strides: list[int],
        aggregation_blocks: int = 3,
        decoder_blocks: tuple[int, ...] = (3, 4, 6),
        *,
        linear: bool = False,
    ) -> None:
        super().__init__()
        if len(decoder_blocks) != len(channels):
            raise UserError(
                f"decoder_blocks {list(decoder_blocks)}: give one number for each of the"
                f" {len(channels)} layers, the deepest first"
            )
        self.aggregation = Aggregation(channels, strides, aggregation_blocks)
        ups = [2, *_ratios(strides)[::-1]]
        inputs, self.stages = 2 * channels[-1], nn.ModuleList()
        for width, count, up in zip(channels[::-1], decoder_blocks, ups, strict=True):
            stage = [_Bottleneck(inputs, width, up=up, end=not linear or count > 1)]
            for i in range(1, count):
                last = i == count - 1
                stage.append(_Bottleneck(width, width, end=not linear or not last))
            self.stages.append(nn.Sequential(*stage))
            inputs = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Returns recovered features like those given, finest first."""
        x = self.aggregation(features)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[::-1]
