"""Which step's weights become the checkpoint: the last's, unless a protocol chooses another.

last          the default: nothing is looked at
held-out      the best on held-out normal training images and pairs made of them with synthetic
              images that training does not use
best-on-test  the best on the test set, as published numbers were chosen; never a default, and
              every row of such a checkpoint says so
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from detector.data.crops import normal_images
from detector.data.source import NONE, sources
from detector.data.task import Task
from detector.frame import Frame
from detector.maps import anomaly_maps
from detector.model import Detector
from detector.options import TrainOptions
from detector.run_folder import Split, split_task
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.seeds import generator
from sia_gen.core.statistics.ranking import rank

LEAST = 32  # pairs and normal images, each, that a held-out look is made of, at least


@dataclass(frozen=True, kw_only=True)
class Looked:
    """Labelled images of one category: images_NRR3 uint8, masks_NRR bool, empty for normal ones."""

    images_NRR3: Array8
    masks_NRR: Mask


def merit(model: Detector, looked: list[Looked], device: torch.device) -> float:
    """Returns the mean of image AUROC (map maximum) and pixel average precision, categories alike.

    In [0, 1]. One number has to choose; the first says too little where all images are told apart.
    """
    values = []
    for one in looked:
        maps = anomaly_maps(model, one.images_NRR3, device)
        labels = np.asarray(one.masks_NRR.any(axis=(1, 2)))
        image = rank(maps.max(axis=(1, 2)), labels).area()
        pixel = rank(maps, one.masks_NRR).average_precision()
        values.append((image + pixel) / 2)
    return float(np.mean(values))


def calibration(splits: list[Split], protocol: str) -> list[Split]:
    """Returns the splits with the held-out images that are left for the threshold.

    Images that chose the checkpoint cannot promise a false-alarm rate too: every second is kept
    out of the choice.
    """
    if protocol != "held-out":
        return splits
    return [(used, held[1::2]) for used, held in splits]


def check(options: TrainOptions, task: Task) -> None:
    """Raises UserError where a protocol lacks the images to choose by; reads none of them."""
    for category, (_, held) in zip(task.categories, split_task(task, options.holdout), strict=True):
        if options.protocol == "held-out" and len(held) < 2:
            raise UserError(
                f"{category.root}: protocol held-out needs 2 held-out images, one to choose by and"
                f" one for the threshold; found {len(held)}: give a larger --holdout"
            )
        normal = sum(not e.anomalous for e in category.test)
        masked = sum(e.anomalous and e.mask is not None for e in category.test)
        if options.protocol == "best-on-test" and not (normal and masked):
            raise UserError(
                f"{category.root}: protocol best-on-test needs normal test images and anomalous"
                f" ones with masks, found {normal} and {masked}"
            )
    if options.protocol == "held-out" and options.source == NONE:
        raise UserError("protocol held-out needs a source of synthetic anomalies, not none")


def looker(
    options: TrainOptions, task: Task, splits: list[Split], device: torch.device
) -> Callable[[Detector], float] | None:
    """Returns what judges a model while it trains; None where the last step's weights are kept."""
    if options.protocol == "last":
        return None
    if options.protocol == "held-out":
        looked = _held_out(options, task, splits)
    else:
        looked = [_test(task, part, Frame.of(options)) for part in range(len(task.categories))]
    return lambda model: merit(model, looked, device)


def _held_out(options: TrainOptions, task: Task, splits: list[Split]) -> list[Looked]:
    parts = []
    for category, (_, held) in zip(task.categories, splits, strict=True):
        parts.append((held[::2], category.foreground if options.foreground else "whole"))
    normals = normal_images(parts, options, task.read_image)
    made = sources(options, task, normals, held=True)
    found = []
    for part, method in enumerate(made):
        own = normals.of_part(part)
        images = [normals.image(i) for i in own]
        masks = [np.zeros(images[0].shape[:2], dtype=np.bool_) for _ in own]
        plain = len(images)
        for k in range(10 * LEAST):
            index = own[k % len(own)]
            rng = generator(options.seed, "held-out", part, k)
            pair = method.pair(normals.image(index), normals.foreground(index), rng)
            if pair.mask.any():
                images.append(pair.image)
                masks.append(pair.mask)
            if len(images) - plain >= max(LEAST, plain):
                break
        if len(images) == plain:
            raise UserError(f"{task.key}: source {options.source} made no anomaly to choose by")
        found.append(Looked(images_NRR3=np.stack(images), masks_NRR=np.stack(masks)))
    return found


def _test(task: Task, part: int, frame: Frame) -> Looked:
    category = task.categories[part]
    # An anomalous image without mask cannot be compared with pixels.
    used = [e for e in category.test if e.mask is not None or not e.anomalous]
    resolution, images, masks = frame.resolution, [], []
    for example in used:
        original = category.read_image(example.path)
        mask = example.read_mask()
        empty = np.zeros((resolution,) * 2, dtype=np.bool_)
        images.append(frame.fitted(original))
        masks.append(empty if mask is None else frame.fitted_mask(mask, original.shape[:2]))
    return Looked(images_NRR3=np.array(images), masks_NRR=np.array(masks, dtype=np.bool_))
