"""What a job must know of the normal images: how bright they are, and what such images weigh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sia_gen.core.data.dataset import Category
from sia_gen.core.pixels.encoding import Encoding
from sia_gen.core.pixels.images import Array8
from sia_gen.core.seeds import generator
from sia_gen.runs.shard_health import Levels

PICKS = 8  # images of a category, spread evenly over its list
# Grain of a sampler's images beside photographs, in grey levels: it decides what PNG makes of them.
GRAIN = 1.5
TAR_OVERHEAD = 2048  # bytes a sample: two headers, padding, the JSON


def picks(files: Sequence[Path], count: int = PICKS) -> list[Path]:
    """Returns at most `count` files, spread evenly, the same ones every time."""
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[i] for i in chosen]


def levels(category: Category, resolution: int) -> Levels:
    """Returns the mean grey level of a category's normal images and its spread."""
    means = [float(category.read_image(path, resolution).mean()) for path in picks(category.train)]
    return Levels(mean=round(float(np.mean(means)), 3), spread=round(float(np.std(means)), 3))


@dataclass(frozen=True, kw_only=True)
class Weight:
    """The mean size of a stored sample in bytes, and on what it was measured."""

    bytes: float
    measured_on: str


def weigh(images: Sequence[Array8], encoding: Encoding, measured_on: str) -> Weight:
    """Returns what images of a model weigh in a shard."""
    sizes = [len(encoding.encode(image)) for image in images]
    return Weight(bytes=float(np.mean(sizes)) + TAR_OVERHEAD, measured_on=measured_on)


def weigh_normals(categories: Sequence[Category], resolution: int, encoding: Encoding) -> Weight:
    """Returns what the normal images would weigh with a sampler's grain, two of each category."""
    rng = generator("grain", resolution)
    images = []
    for category in categories:
        for path in picks(category.train, 2):
            image = category.read_image(path, resolution).astype(np.float32)
            noisy = image + rng.normal(0.0, GRAIN, image.shape)
            images.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return weigh(images, encoding, f"{len(images)} normal images with a sampler's grain")
