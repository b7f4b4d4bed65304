"""What a diffusion model is trained on: normal images, some of them held out, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.log import say
from sia_gen.core.pixels.images import Array8
from sia_gen.core.seeds import generator
from sia_gen.diffusion.options import TrainOptions

MIN_IMAGES = 20
HELD_OUT_SHARE = 0.1
OFTEN = 2  # crops hold so many times an image's pixels together
MOST_CROPS = 64  # of one image


@dataclass(frozen=True, kw_only=True)
class NormalImages:
    """The normal images of a run: uint8 (N, H, W, 3) with labels (N,), held-out ones apart."""

    images: Array8
    labels: np.ndarray[Any, np.dtype[np.int64]]
    held_out: dict[str, Array8]
    classes: tuple[str, ...]
    dataset: str
    value_ranges: dict[str, list[float]]  # of categories whose files have more than 8 bits

    def train(self) -> dict[str, Array8]:
        """Returns the training images by category."""
        return {name: self.images[self.labels == i] for i, name in enumerate(self.classes)}


def _split(category: Category) -> tuple[list[Path], list[Path]]:
    """Returns a category's training images without, and only, a fixed tenth that is held out."""
    if len(category.train) < MIN_IMAGES:
        raise UserError(
            f"{category.root}/train/good holds {len(category.train)} images: a diffusion model"
            f" needs at least {MIN_IMAGES} (a few hundred are better)"
        )
    order = generator("held-out", category.key).permutation(len(category.train))
    held = set(order[: max(2, int(len(order) * HELD_OUT_SHARE))].tolist())
    train = [path for i, path in enumerate(category.train) if i not in held]
    return train, [category.train[i] for i in sorted(held)]


def _images(category: Category, path: Path, options: TrainOptions) -> list[Array8]:
    """Returns what is seen of an image: itself at the run's resolution, or crops of it as it is.

    Crops lie anywhere, at places that the image's name decides, and hold its pixels twice.
    """
    if not options.tiles:
        return [category.read_image(path, options.resolution)]
    side, image = options.tiles, category.read_image(path)
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise UserError(f"{path} is {width} x {height} pixels, smaller than a tile of {side}")
    rng = generator(options.seed, "crops", category.key, path.name)
    count = min(MOST_CROPS, max(1, round(OFTEN * height * width / side**2)))
    tops, lefts = (rng.integers(0, n - side + 1, count) for n in (height, width))
    return [image[t : t + side, x : x + side].copy() for t, x in zip(tops, lefts, strict=True)]


def _mirrored(image_HWC: Array8, mirror: str) -> list[Array8]:
    """Returns an image and its mirrored copies."""
    rows = [image_HWC, image_HWC[::-1]] if mirror in {"vertical", "both"} else [image_HWC]
    sides = [row[:, ::-1] for row in rows] if mirror in {"horizontal", "both"} else []
    return rows + sides


def read_normals(options: TrainOptions) -> NormalImages:
    """Returns the normal training images of the chosen categories at the run's resolution."""
    dataset = open_dataset(options.data, options.value_range)
    categories = dataset.select(options.categories)
    images: list[Array8] = []
    labels: list[int] = []
    held_out: dict[str, Array8] = {}
    ranges: dict[str, list[float]] = {}
    for label, category in enumerate(categories):
        train, held = _split(category)
        if category.value_range:
            ranges[category.name] = list(category.value_range)
            say(category.range_note())
        read = [image for path in train for image in _images(category, path, options)]
        shown = [copy for image in read for copy in _mirrored(image, options.mirror)]
        images += shown
        labels += [label] * len(shown)
        apart = [image for path in held for image in _images(category, path, options)]
        held_out[category.name] = np.stack(apart)
    return NormalImages(
        images=np.stack(images),
        labels=np.array(labels, dtype=np.int64),
        held_out=held_out,
        classes=tuple(c.name for c in categories),
        dataset=dataset.name,
        value_ranges=ranges,
    )


def image_channels(options: TrainOptions, normals: NormalImages) -> int:
    if options.channels != "auto":
        return int(options.channels)
    pixels = normals.images
    gray = bool(
        (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    )
    return 1 if gray else 3


def batch_indices(count: int, batch: int, seed: int, step: int) -> np.ndarray[Any, Any]:
    """Returns the images of batch `step`: every epoch a new permutation, none left out."""
    first = step * batch
    taken: list[np.ndarray[Any, Any]] = []
    while sum(map(len, taken)) < batch:
        at = first + sum(map(len, taken))
        epoch, offset = divmod(at, count)
        order = generator(seed, "order", epoch).permutation(count)
        taken.append(order[offset : offset + batch - sum(map(len, taken))])
    return np.concatenate(taken)
