"""Anomaly maps of images, and the image scores of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detector.scorefile import image_scores
from sia_gen.core.images import Array8, read_image

BATCH = 16


@torch.no_grad()
def anomaly_maps(model: Any, images_NRR3: Array8, device: torch.device) -> npt.NDArray[np.float32]:
    """Returns anomaly maps float32 (N, R, R) in [0, 1] of uint8 images, in eval mode."""
    model.eval()
    images = torch.from_numpy(images_NRR3).to(device).permute(0, 3, 1, 2).float().div(255)
    maps = [model(part).float().cpu() for part in images.split(BATCH)]
    return torch.cat(maps).numpy()


def score_images(
    model: Any, paths: tuple[Path, ...], resolution: int, device: torch.device
) -> dict[str, list[float]]:
    """Returns the image scores of files in their order: score_max, score_avgpool16_max."""
    found: dict[str, list[float]] = {"score_max": [], "score_avgpool16_max": []}
    for start in range(0, len(paths), BATCH):
        images = np.stack([read_image(p, resolution) for p in paths[start : start + BATCH]])
        for map_HW in anomaly_maps(model, images, device):
            for name, value in image_scores(map_HW).items():
                found[name].append(value)
    return found
