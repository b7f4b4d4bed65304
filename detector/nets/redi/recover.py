"""The recover network: U-Nets of RIAD's shape, with one encoder or two half as wide (HIP).

Strided 4 x 4 convolutions down, transposed 4 x 4 convolutions up, skips at every scale. HIP's two
encoders, one for the map and one for the prompt, are joined scale by scale, so the decoder is the
same. This shape alone gives the parameters of ReDi's Table 12: 22.59 M with `width` 64.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

WIDTHS = (1, 2, 4, 8, 8)  # of the encoder's scales, in units of `width`
STRIDE = 2 ** (len(WIDTHS) - 1)


def _down(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, 1, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _doubling(inputs: int, outputs: int, smooth: bool) -> nn.ConvTranspose2d:
    """Returns a transposed convolution; a smooth one starts as bilinear interpolation.

    Drawn freely, the four phases of its kernel differ: a checkerboard at every scale, which a short
    training does not remove. But where a map is constant inside its cells, as HOG's is, those
    phases are what detail inside a cell is first drawn with.
    """
    made = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
    if not smooth:
        return made
    assert made.bias is not None
    with torch.no_grad():
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])
        mix = torch.empty(inputs, outputs, 1, 1).uniform_(-1, 1) * (3 / inputs) ** 0.5
        made.weight.copy_(mix * line * line[:, None])
        made.bias.zero_()
    return made


class Encoder(nn.Module):
    """Five scales of features, the finest at full resolution."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        widths = [width * factor for factor in WIDTHS]
        blocks = [_down(inputs, widths[0], 3, 1)]
        blocks += [_down(a, b, 4, 2) for a, b in itertools.pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Returns the features of each scale, finest first."""
        found = []
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
            found.append(x_BCHW)
        return found


class _Up(nn.Module):
    def __init__(self, inputs: int, skip: int, outputs: int, smooth: bool) -> None:
        super().__init__()
        self.up = _doubling(inputs, outputs, smooth)
        self.block = _down(outputs + skip, outputs, 3, 1)

    def forward(self, x_BCHW: Tensor, skip: Tensor) -> Tensor:
        found: Tensor = self.block(torch.cat([self.up(x_BCHW), skip], dim=1))
        return found


class Decoder(nn.Module):
    """From five scales of features back to an image in [-1, 1]."""

    def __init__(self, width: int, smooth: bool = False) -> None:
        super().__init__()
        skips = [width * factor for factor in WIDTHS[-2::-1]]
        inputs = [width * WIDTHS[-1], *skips[:-1]]
        self.blocks = nn.ModuleList(
            _Up(a, skip, skip, smooth) for a, skip in zip(inputs, skips, strict=True)
        )
        self.last = nn.Conv2d(skips[-1], 3, 3, 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1] from features, finest first."""
        *skips, x = features
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(x, skip)
        return torch.tanh(self.last(x))


class UNet(nn.Module):
    """One encoder, one decoder: image inpainting, and recovery from the map alone."""

    def __init__(self, inputs: int, width: int, smooth: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, width)
        self.decoder = Decoder(width, smooth)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns images (B, 3, H, W) in [-1, 1]."""
        found: Tensor = self.decoder(self.encoder(x_BCHW))
        return found


class PromptedUNet(nn.Module):
    """HIP: a map's and a prompt's encoder, each half as wide, fused per scale (Eqs. 1-3)."""

    def __init__(self, width: int, smooth: bool = False) -> None:
        super().__init__()
        self.of_map = Encoder(1, width // 2)
        self.of_prompt = Encoder(3, width - width // 2)
        self.decoder = Decoder(width, smooth)

    def forward(self, map_B1HW: Tensor, prompt_B3HW: Tensor) -> Tensor:
        """Returns recovered images (B, 3, H, W); everything in [-1, 1]."""
        pairs = zip(self.of_map(map_B1HW), self.of_prompt(prompt_B3HW), strict=True)
        found: Tensor = self.decoder([torch.cat(pair, dim=1) for pair in pairs])
        return found


class AutoEncoder(nn.Module):
    """A U-Net without skips: what it must squeeze through describes an image, self-supervised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(3, width)
        widths = [width * factor for factor in WIDTHS[::-1]]
        blocks: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            blocks += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.decoder = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 3, 3, 1, 1), nn.Tanh())

    def describe(self, images_B3HW: Tensor) -> Tensor:
        """Returns the narrowest features, averaged over quarters of the image, (B, 16 C)."""
        deepest = self.encoder(images_B3HW)[-1]
        return nn.functional.adaptive_avg_pool2d(deepest, 4).flatten(1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Returns reconstructed images (B, 3, H, W) in [-1, 1] of images in [-1, 1]."""
        found: Tensor = self.decoder(self.encoder(images_B3HW)[-1])
        return found
