"""Anomaly maps of images that fit the network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from detector.model import Detector
from sia_gen.compute.device import autocast
from sia_gen.core.pixels.images import Array8

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
