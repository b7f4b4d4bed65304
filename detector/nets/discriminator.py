"""The discriminator: from selected residuals to a normal/anomalous map of the image's size."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn

from detector.nets.batchnorm import BatchNorm2d


def _conv3x3(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
    """Returns a convolution that repeats the border: what lies outside is no different from it."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=bias)


class ResidualConvBlock(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution beside an identity.

    With two of them on 512 channels a forward pass of the paper's model at 256 x 256 costs the
    229 GFLOP measured on the authors' implementation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv3x3(channels, channels, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm2d(channels),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns (B, channels, H, W)."""
        return functional.relu(x_BCHW + self.body(x_BCHW))


def _up(x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=True)


class Discriminator(nn.Module):
    """Two residual blocks, then 3 x 3 convolutions to 128, 32, 8, up x 2, to 4, 2, up to the image.

    RealNet, section 3.3, in the widths of the authors' code. Different from it are: the border is
    repeated instead of filled with zeros, which after short trainings gave every normal image its
    highest score in a corner; and a residual block has a BatchNorm after both of its convolutions
    and a ReLU after the sum. Measured against the authors' code with repeated border, this keeps
    normal images dark after short trainings.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ResidualConvBlock(channels), ResidualConvBlock(channels))
        self.coarse = nn.Sequential(
            _conv3x3(channels, 128, bias=False),
            BatchNorm2d(128),
            nn.ReLU(),
            _conv3x3(128, 32),
            nn.ReLU(),
            _conv3x3(32, 8),
            nn.ReLU(),
        )
        self.fine = nn.Sequential(_conv3x3(8, 4), nn.ReLU(), _conv3x3(4, 2))

    def forward(self, x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns logits (B, 2, *size): normal, anomalous. Their softmax's channel 1 is the map."""
        coarse = self.coarse(self.blocks(x_BCHW))
        height, width = coarse.shape[-2:]
        return _up(self.fine(_up(coarse, (2 * height, 2 * width))), size)


class LightDiscriminator(nn.Module):
    """Judges roots of residuals: 1 x 1 to 48 channels, two 3 x 3 convolutions, up x 2, to 2, up.

    Not the paper's. Roots and a BatchNorm before all else bring residuals of unlike scales
    together, so that a few hundred steps suffice.
    """

    def __init__(self, channels: int, width: int = 48) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels)
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            BatchNorm2d(width),
            nn.ReLU(),
            _conv3x3(width, width, bias=False),
            BatchNorm2d(width),
            nn.ReLU(),
            _conv3x3(width, width, bias=False),
            BatchNorm2d(width),
            nn.ReLU(),
        )
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns logits (B, 2, *size): normal, anomalous."""
        judged = self.body(self.norm((x_BCHW + 1e-6).sqrt()))
        height, width = judged.shape[-2:]
        return _up(self.out(_up(judged, (2 * height, 2 * width))), size)


KINDS = {"paper": Discriminator, "light": LightDiscriminator}
