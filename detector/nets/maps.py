"""Layers and maps of unlike resolutions brought together."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

from detector.nets import rrs


def residuals(features: list[Tensor], restored: list[Tensor]) -> Tensor:
    """Returns squared residuals of all blocks, up-sampled and concatenated, (B, C, H, W)."""
    pairs = zip(features, restored, strict=True)
    return rrs.align([(x.float() - y.float()).square() for x, y in pairs])


def shown(map_B1HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns a map as a picture of its own scale: three channels are no summand of the score."""
    scaled = map_B1HW.float() / map_B1HW.amax().clamp_min(1e-12)
    return enlarged(scaled, size).expand(-1, 3, -1, -1)


def enlarged(map_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns maps at the image's size."""
    return functional.interpolate(map_BCHW, size=size, mode="bilinear", align_corners=True)


def blocks(layers: int, architecture: str) -> list[tuple[int, ...]]:
    """Returns which layers share a reconstruction network (RealNet, appendix C.4)."""
    size = {"A": 1, "B": layers, "C": 2}[architecture]
    return [tuple(range(i, min(i + size, layers))) for i in range(0, layers, size)]


def resampled(x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    """Returns features at the resolution of others."""
    size = (like_BCHW.shape[-2], like_BCHW.shape[-1])
    return functional.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=True)
