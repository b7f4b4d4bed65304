"""From an image to the normal image it should have been: the four ways that the paper compares.

hip    a self-generated map and a normal image like it (the prompt); the method itself
imi    inpainting of holes from what is around them
iihp   inpainting of holes in which the map shows
none   no recovery: both branches see the image itself (then it is RD)
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from detector.nets.redi.prompts import PromptBank, to_pixels
from detector.nets.redi.recover import PromptedUNet, UNet
from detector.nets.redi.self_map import SelfMap
from sia_gen.core.seeds import generator

WAYS = ("hip", "imi", "iihp", "none")
SIDES = (0.125, 0.5)  # of a hole in training, as shares of the image's side
GRID = 4  # holes of an image in inference, along each side: each place is inpainted once


class Recovery(nn.Module):
    """The recover network with what it needs of the normal images; nothing of it sees X itself,
    but for the surroundings of a hole."""

    holes_drawn: Tensor

    def __init__(
        self,
        way: str,
        self_map: SelfMap,
        bank: PromptBank | None,
        width: int,
        seed: int,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        self.way, self.map, self.bank, self.seed = way, self_map, bank, seed
        self.net: nn.Module
        if way == "hip":
            self.net = PromptedUNet(width, smooth) if bank is not None else UNet(1, width, smooth)
        else:
            self.net = UNet(3, width, smooth)
        self.net = self.net.to(memory_format=torch.channels_last)  # a third faster on CPUs
        # Part of the state, so that a training that goes on draws the holes it would have drawn.
        self.register_buffer("holes_drawn", torch.zeros((), dtype=torch.long))

    def known(self, images_B3RR: Tensor, description_BC: Tensor | None) -> list[Tensor]:
        """Returns what training needs of images, constants of a run: pixels, map, prompts' places.

        The description is that by which prompts are sought.
        """
        found = [to_pixels(images_B3RR), self.map(images_B3RR)]
        if self.bank is not None and description_BC is not None:
            found.append(self.bank.choose(images_B3RR, description_BC)[0])
        return found

    def train_step(self, known: list[Tensor], indices_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (recovered, true) images (B, 3, R, R) in [-1, 1]."""
        images, maps = known[0].float().div(127.5).sub(1), known[1]
        if self.way == "hip":
            prompts = [] if self.bank is None else [self.bank.prompts(known[2])]
            return self.net(maps, *prompts), images
        keep = self._random_holes(indices_B, images)
        return self.net(self._holed(images, maps, keep)), images

    def forward(self, images_B3RR: Tensor, description_BC: Tensor | None) -> Tensor:
        """Returns recovered images (B, 3, R, R) in [0, 1] of images in [0, 1]."""
        maps = self.map(images_B3RR)
        if self.way == "hip":
            prompts = []
            if self.bank is not None and description_BC is not None:
                places, _ = self.bank.choose(images_B3RR, description_BC)
                prompts = [self.bank.prompts(places)]
            return self.net(maps, *prompts).float().add(1).div(2)
        images = images_B3RR * 2 - 1
        whole = torch.zeros_like(images, dtype=torch.float32)
        for keep in _grid_holes(images):
            filled = self.net(self._holed(images, maps, keep)).float()
            whole = whole + filled * (1 - keep)
        return whole.add(1).div(2)

    def _holed(self, images: Tensor, maps: Tensor, keep: Tensor) -> Tensor:
        inside = maps if self.way == "iihp" else torch.zeros_like(maps)
        return images * keep + inside * (1 - keep)

    def _random_holes(self, indices_B: Tensor, images: Tensor) -> Tensor:
        draw = int(self.holes_drawn)
        side = images.shape[-1]
        keep = torch.ones(len(images), 1, side, side)
        for place, index in enumerate(indices_B.tolist()):
            rng = generator(self.seed, "hole", draw, index)
            height, width = np.maximum(1, np.rint(rng.uniform(*SIDES, 2) * side)).astype(int)
            top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
            keep[place, :, top : top + height, left : left + width] = 0
        self.holes_drawn += 1
        return keep.to(images)


def _grid_holes(images: Tensor) -> list[Tensor]:
    side = images.shape[-1]
    edges = [round(i * side / GRID) for i in range(GRID + 1)]
    found = []
    for top, bottom in itertools.pairwise(edges):
        for left, right in itertools.pairwise(edges):
            keep = torch.ones(1, 1, side, side, device=images.device)
            keep[..., top:bottom, left:right] = 0
            found.append(keep)
    return found
