"""What a tracker is shown of a detector while it trains: maps of the same images at each look."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from detector import overlay
from detector.data.batches import Batches
from detector.data.crops import normal_images
from detector.data.task import Task
from detector.maps import anomaly_maps
from detector.model import Detector
from detector.options import TrainOptions
from detector.run_folder import Split
from sia_gen.core.pixels.images import Array8

SHOWN = 4  # images of a kind
MIDDLE = 0.5  # the score in the middle of the colours: no threshold is known yet


def pictures(
    options: TrainOptions, task: Task, splits: list[Split], batches: Batches, device: torch.device
) -> Callable[[Detector], dict[str, Array8]]:
    """Returns what draws the maps of held-out normal images and of pairs, by the tracker's names.

    Each row is image, heat and both. Without held-out images there are pairs alone.
    """
    chosen: dict[str, Array8] = {}
    if batches.preparing and not options.stream:  # which gives each image once
        chosen["maps/training_pairs"] = batches.anomalous(0).images[:SHOWN]
    held = [paths[:SHOWN] for _, paths in splits]
    if any(held):
        rules = [c.foreground if options.foreground else "whole" for c in task.categories]
        normals = normal_images(list(zip(held, rules, strict=True)), options, task.read_image)
        chosen["maps/held_out"] = normals.stack(np.arange(min(SHOWN, len(normals))))

    def draw(model: Detector) -> dict[str, Array8]:
        found = {}
        for name, images in chosen.items():
            maps = anomaly_maps(model, images, device)
            rows = [overlay.panel(i, m, MIDDLE) for i, m in zip(images, maps, strict=True)]
            found[name] = np.concatenate(rows, axis=0)
        return found

    return draw
