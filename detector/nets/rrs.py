"""Reconstruction residuals selection: which residual channels reach the discriminator (RRS)."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from detector.nets.batchnorm import BatchNorm2d

MODES = ("max&avg", "max", "avg", "off")


def align(residuals: list[Tensor]) -> Tensor:
    """Returns the blocks up-sampled (bilinear) to the finest and concatenated, (B, C, H, W)."""
    size = max(tuple(r.shape[-2:]) for r in residuals)
    resized = [
        r
        if tuple(r.shape[-2:]) == size
        else functional.interpolate(r, size=size, mode="bilinear", align_corners=True)
        for r in residuals
    ]
    return torch.cat(resized, dim=1)


def retained(channels: int, ratio: float, mode: str) -> int:
    """Returns r, how many channels RRS passes on: ratio P of all; even for max&avg, at least 2."""
    if mode == "off":
        return channels
    wanted = max(1, round(channels * ratio))
    if mode != "max&avg":
        return min(wanted, channels)
    return 2 * min(max(1, round(wanted / 2)), channels)


class ResidualSelection(nn.Module):
    """Passes on, per image, the residual channels with the largest maxima and the largest means.

    A BatchNorm without affine part makes channels of different blocks comparable, but only for
    choosing: what goes on are the unnormalised residuals, largest first. In max&avg half of the r
    channels go by maximum and half by mean; one may be chosen twice (RealNet, section 3.3; code).
    """

    def __init__(self, channels: int, ratio: float, mode: str) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"RRS mode {mode!r} is not one of {', '.join(MODES)}")
        self.mode = mode
        self.by = {"max&avg": ("max", "avg"), "off": ("all",)}.get(mode, (mode,))
        self.outputs = retained(channels, ratio, mode)
        self.norm = BatchNorm2d(channels, affine=False, momentum=0.9)

    def choose(self, residual_BCHW: Tensor) -> Tensor:
        """Returns the chosen channel indices per image, int64 (B, r): by maximum, then by mean."""
        if self.mode == "off":
            every = torch.arange(residual_BCHW.shape[1], device=residual_BCHW.device)
            return every.expand(len(residual_BCHW), -1)
        normalised = self.norm(residual_BCHW.detach().float())
        by_max, by_avg = normalised.amax(dim=(2, 3)), normalised.mean(dim=(2, 3))
        if self.mode == "max":
            return by_max.topk(self.outputs, dim=1).indices
        if self.mode == "avg":
            return by_avg.topk(self.outputs, dim=1).indices
        half = self.outputs // 2
        return torch.cat(
            [by_max.topk(half, dim=1).indices, by_avg.topk(half, dim=1).indices], dim=1
        )

    def forward(self, residual_BCHW: Tensor) -> Tensor:
        """Returns the chosen residuals (B, r, H, W); all of them, in order, where RRS is off."""
        if self.mode == "off":
            return residual_BCHW
        index = self.choose(residual_BCHW)
        height, width = residual_BCHW.shape[-2:]
        return residual_BCHW.gather(1, index[:, :, None, None].expand(-1, -1, height, width))
