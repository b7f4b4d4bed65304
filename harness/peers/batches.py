"""Our images as anomalib's batches: read as every other row's; no splits of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from sia_gen.core.pixels.images import Array8, read_image
from sia_gen.core.pixels.ranges import ValueRange


def as_tensor(images_NHW3: Array8) -> torch.Tensor:
    """Returns uint8 images as float RGB in [0, 1], (N, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images_NHW3.transpose(0, 3, 1, 2))).float() / 255


class Normals(Dataset[tuple[int, torch.Tensor]]):
    """Normal training images at one size, each read once."""

    def __init__(self, paths: list[Path], size: int, value_range: ValueRange | None = None) -> None:
        self.paths = paths
        self._images = [read_image(path, size, value_range) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, as_tensor(self._images[index][None])[0]

    def collate(self, items: list[tuple[int, torch.Tensor]]) -> Any:
        """Returns anomalib's batch of normal images: empty masks, labels 0."""
        from anomalib.data import ImageBatch

        image = torch.stack([tensor for _, tensor in items])
        count, _, height, width = image.shape
        return ImageBatch(
            image=image,
            gt_label=torch.zeros(count, dtype=torch.bool),
            gt_mask=torch.zeros(count, height, width, dtype=torch.bool),
            image_path=[str(self.paths[index]) for index, _ in items],
        )


class Normal(LightningDataModule):
    """Normal images only: there is no validation set that could eat test images."""

    def __init__(self, data: Normals, *, batch: int, seed: int, shuffle: bool) -> None:
        super().__init__()
        self.name, self.category = "sia-gen", ""
        self.train_batch_size = batch
        self._data, self._seed, self._shuffle = data, seed, shuffle

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the training batches, shuffled by the seed; memories see every image once."""
        return DataLoader(
            self._data,
            batch_size=self.train_batch_size,
            shuffle=self._shuffle,
            # A last batch of another size would weigh its images more, one alone breaks BatchNorm.
            drop_last=self._shuffle and len(self._data) >= self.train_batch_size,
            collate_fn=self._data.collate,
            generator=torch.Generator().manual_seed(self._seed),
        )
