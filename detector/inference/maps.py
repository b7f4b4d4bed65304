"""Anomaly maps of images, and the image scores of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from detector.model import Detector
from detector.scorefile import image_scores
from sia_gen.compute.device import autocast
from sia_gen.core.pixels.images import Array8, read_image

BATCH = 16


@torch.no_grad()
def anomaly_maps(
    model: Detector, images_NRR3: Array8, device: torch.device, precision: str = "fp32"
) -> npt.NDArray[np.float32]:
    """Returns anomaly maps float32 (N, R, R) in [0, 1] of uint8 images, in eval mode.

    The maps stay on the device until all are made.
    """
    model.eval()
    images = torch.from_numpy(images_NRR3).to(device)
    maps = []
    with autocast(device, precision):
        for part in images.split(BATCH):
            # NHWC bytes seen as NCHW lie channels-last already: no copy is made for that.
            maps.append(model(part.permute(0, 3, 1, 2).float().div(255)).float())
    return torch.cat(maps).cpu().numpy()


def score_images(
    model: Detector,
    paths: tuple[Path, ...],
    resolution: int,
    device: torch.device,
    read: Callable[[Path, int], Array8] = read_image,
) -> dict[str, list[float]]:
    """Returns the image scores of files in their order: score_max, score_avgpool16_max."""
    found: dict[str, list[float]] = {"score_max": [], "score_avgpool16_max": []}
    for start in range(0, len(paths), BATCH):
        images = np.stack([read(p, resolution) for p in paths[start : start + BATCH]])
        for map_HW in anomaly_maps(model, images, device):
            for name, value in image_scores(map_HW).items():
                found[name].append(value)
    return found
