"""What a model needs of normal images: constants of a stage, since nothing augments them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detector.data.normals import NormalImages
from detector.model import Detector
from sia_gen.core.pixels.images import Array8
from sia_gen.core.progress import counted

PASS = 16  # images a pass where nothing is learned


def to_tensor(images_BHW3: Array8, device: torch.device) -> Tensor:
    """Returns uint8 images as float32 (B, 3, H, W) in [0, 1]."""
    moved = torch.from_numpy(images_BHW3).to(device, non_blocking=True)
    return moved.permute(0, 3, 1, 2).float().div_(255)


class Constants:
    """A stage's constants of all normal images, computed once where they fit in `room` bytes."""

    def __init__(
        self, model: Detector, stage: str, normals: NormalImages, room: int, accelerator: Any
    ) -> None:
        self._model, self._stage, self._normals = model, stage, normals
        self._accelerator = accelerator
        first = self._compute(np.arange(1))
        each = sum(f.numel() * f.element_size() for f in first)
        self.kept: list[Tensor] | None = None
        if each * len(normals) <= room:
            self.kept = [
                torch.empty((len(normals), *f.shape[1:]), dtype=f.dtype, device=f.device)
                for f in first
            ]
            starts = range(0, len(normals), PASS)
            label = f"constants of {len(normals)} normal images, by {PASS}"
            shown = accelerator.is_main_process
            for start in counted(starts, len(starts), label, shown=shown):
                index = np.arange(start, min(start + PASS, len(normals)))
                for whole, part in zip(self.kept, self._compute(index), strict=True):
                    whole[start : start + len(index)] = part

    @torch.no_grad()
    def _compute(self, indices: npt.NDArray[np.intp]) -> list[Tensor]:
        device = self._accelerator.device
        images = to_tensor(self._normals.stack(indices), device)
        with self._accelerator.autocast():
            return self._model.constants(self._stage, images, torch.from_numpy(indices).to(device))

    def of(self, indices: npt.NDArray[np.intp]) -> list[Tensor]:
        """Returns the constants of some normal images, the images in the first dimension."""
        if self.kept is None:
            return self._compute(indices)
        index = torch.from_numpy(indices).to(self._accelerator.device)
        return [f.index_select(0, index) for f in self.kept]
