"""The self-generated map: what the recover network may know of the image that it is to recover."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from detector.nets.redi.edges import canny_batch, roberts, sobel
from detector.nets.redi.hog import Hog

KINDS = ("hog", "canny", "sobel", "roberts")
COLOURS = ("gray", "max")
SCALES = ("fixed", "image")
LUMA = (0.299, 0.587, 0.114)  # Rec. 601, as OpenCV and Pillow weigh colours


def to_gray(images_B3HW: Tensor) -> Tensor:
    """Returns the luma of RGB images, (B, 1, H, W)."""
    return (images_B3HW * images_B3HW.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


class SelfMap(nn.Module):
    """Maps in [-1, 1] of RGB images in [0, 1]; its gain is a constant of the normal images.

    A HOG image of [0, 1] input is nearly black (below 0.4). A gain of each image's own maximum
    would let one strong defect darken all else, so `fixed` is the default.
    """

    gain: Tensor

    def __init__(
        self,
        kind: str,
        *,
        bins: int = 9,
        cell: int = 8,
        colour: str = "gray",
        scale: str = "fixed",
        quantile: float = 0.995,
        thresholds: tuple[int, int] = (50, 100),
    ) -> None:
        super().__init__()
        self.kind, self.colour, self.scale, self.thresholds = kind, colour, scale, thresholds
        self.quantile = quantile
        self.hog = Hog(bins, cell) if kind == "hog" else None
        self.register_buffer("gain", torch.ones(()))

    def raw(self, images_B3HW: Tensor) -> Tensor:
        """Returns the maps as their definition has them, >= 0, (B, 1, H, W)."""
        images = images_B3HW.float()
        if self.hog is not None:
            found: Tensor = self.hog(images if self.colour == "max" else to_gray(images))
            return found
        gray = to_gray(images)
        if self.kind == "canny":
            return canny_batch(gray, *self.thresholds)
        return sobel(gray) if self.kind == "sobel" else roberts(gray)

    @torch.no_grad()
    def fix_gain(self, normal: Iterable[Tensor]) -> float:
        """Sets and returns the gain that brings a quantile of normal images' pixels to 1."""
        if self.kind == "canny":
            return float(self.gain)
        bright, peak = [], 0.0
        for images in normal:
            maps = self.raw(images).flatten(1)
            bright += torch.quantile(maps, self.quantile, dim=1).tolist()
            peak = max(peak, float(maps.max()))
        level = sum(bright) / max(len(bright), 1) or peak
        self.gain.fill_(1 / level if level > 0 else 1.0)
        return float(self.gain)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Returns maps (B, 1, H, W) in [-1, 1], -1 where the image is flat."""
        with torch.autocast(images_B3HW.device.type, enabled=False):
            maps = self.raw(images_B3HW)
            if self.scale == "image":
                maps = maps / maps.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
            else:
                maps = maps * self.gain
            return maps.clamp(0, 1) * 2 - 1
