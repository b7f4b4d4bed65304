"""A feature network without weights: the discrete cosine transform of overlapping blocks of pixels.

For machines where no pre-trained network can be had. Each feature layer is a fixed bank of
orthonormal DCT-II basis images, moved over the image with stride 2: linear and, unlike random
convolutions, nearly decorrelated on photographs (Ahmed, Natarajan & Rao 1974), which is what a
reconstruction that weighs its channels alike wants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sia_gen.core.errors import UserError

Floats = npt.NDArray[np.float64]

STRIDE = 2
# Luma and two colour differences (ITU-R BT.601), rows over R, G, B.
PLANES = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@dataclass(frozen=True, kw_only=True)
class Block:
    """One feature layer: blocks of side x side pixels, of which the lowest frequencies are kept."""

    side: int
    kept: int


# The finest detail, and what is a little larger: of the 64 frequencies of 8 x 8 only the low ones,
# for the first layer has the fine ones.
LAYERS = (Block(side=4, kept=16), Block(side=8, kept=24))
# The networks by name, and how many of the colour planes each looks at.
NAMES = {"dct_gray": 1, "dct_color": 3}


def basis(side: int, kept: int) -> Floats:
    """Returns orthonormal DCT-II basis images, (kept, side, side), by rising radial frequency."""
    position, frequency = np.arange(side), np.arange(side)[:, None]
    rows = np.cos(np.pi * (position + 0.5) * frequency / side) * np.sqrt(2 / side)
    rows[0] /= np.sqrt(2)
    images = np.einsum("ui,vj->uvij", rows, rows).reshape(side * side, side, side)
    radius = (frequency**2 + frequency.T**2).ravel()
    return images[np.argsort(radius, kind="stable")[:kept]]


class _FeatureInfo:
    """What timm's networks tell of their feature layers."""

    def __init__(self, channels: list[int]) -> None:
        self._channels = channels

    def channels(self) -> list[int]:
        return self._channels

    def reduction(self) -> list[int]:
        return [STRIDE] * len(self._channels)


class DCTFeatures(nn.Module):
    """Features of the chosen layers, each (B, C_k, H / 2, W / 2), planes one after the other."""

    planes: Tensor

    def __init__(self, name: str, layers: tuple[int, ...]) -> None:
        super().__init__()
        if name not in NAMES:
            raise UserError(f"{name!r} is not one of {', '.join(NAMES)}")
        if not layers or any(not 0 <= i < len(LAYERS) for i in layers):
            raise UserError(
                f"backbone {name} has the layers 0 to {len(LAYERS) - 1}, not {list(layers)}"
            )
        self.blocks = [LAYERS[i] for i in layers]
        count = NAMES[name]
        self.register_buffer("planes", torch.tensor(PLANES[:count])[:, :, None, None])
        for i, block in enumerate(self.blocks):
            images = torch.from_numpy(basis(block.side, block.kept)).float()[:, None]
            self.register_buffer(f"basis{i}", images.repeat(count, 1, 1, 1))
        self.feature_info = _FeatureInfo([count * block.kept for block in self.blocks])

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Returns the block transforms around every second pixel, edges mirrored."""
        planes = functional.conv2d(images_B3HW, self.planes.to(images_B3HW.dtype))
        found = []
        for i, block in enumerate(self.blocks):
            rim = (block.side - STRIDE) // 2
            padded = functional.pad(planes, (rim, rim, rim, rim), mode="reflect")
            weight = self.get_buffer(f"basis{i}").to(images_B3HW.dtype)
            found.append(functional.conv2d(padded, weight, stride=STRIDE, groups=planes.shape[1]))
        return found
