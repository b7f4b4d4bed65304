"""Is a model good enough to generate from? Its s = 0 samples must look like held-out normal images.

The figure is KID (unbiased squared MMD, cubic kernel) over features of a pre-trained network, or of
an untrained one where that is not installed (health_features.py); the record names which. It is
read against two figures of the same features and the same held-out images: KID of training images
(as good as it gets) and KID of visibly degraded training images (see `degrade`). A model passes
unless its samples are clearly farther from the held-out images than the degraded ones are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sia_gen.core.pixels.images import Array8
from sia_gen.core.seeds import generator
from sia_gen.core.statistics.kid import unbiased as kid
from sia_gen.diffusion.health_features import Features, choose

VERSION = 2
TRAIN_IMAGES = 500  # of a category: more say nothing new about it
Floats = npt.NDArray[np.float64]


def kid_error(x: Floats, y: Floats) -> float:
    """Returns the standard error of KID from the draw of the samples x alone.

    Twice the deviation of each sample's mean kernel to its own set less that to y, over sqrt(N).
    """
    n, dimensions = len(x), x.shape[1]
    own = ((x @ x.T) / dimensions + 1.0) ** 3
    pulls = (own.sum(axis=1) - np.diag(own)) / (n - 1)
    pulls = pulls - (((x @ y.T) / dimensions + 1.0) ** 3).mean(axis=1)
    return float(2.0 * pulls.std(ddof=1) / np.sqrt(n))


def degrade(images_BHWC: Array8) -> Array8:
    """Returns the images visibly worse: blurred by sigma 1 pixel, then 10 grey levels of grain."""
    random = generator("health", 1, "degrade")
    grain = random.normal(0.0, 10.0, (*images_BHWC.shape[:3], 1))
    blurred = ndimage.gaussian_filter(images_BHWC.astype(np.float64), (0, 1, 1, 0))
    return np.clip(np.rint(blurred + grain), 0, 255).astype(np.uint8)


def _chance(train: Floats, reference: Floats, count: int) -> float:
    """Returns what KID of `count` normal images reaches by chance, above 0, from 20 draws.

    |mean| + 2 deviations: the mean is that of these held-out images, and may lie below 0.

    Where normal images differ among themselves more than the degradation changes them, this is the
    smallest difference that the figure can show.
    """
    random = generator("health", 1, "chance")
    size = min(count, len(train))
    draws = [kid(train[random.choice(len(train), size, False)], reference) for _ in range(20)]
    return float(abs(np.mean(draws)) + 2.0 * np.std(draws))


@dataclass(frozen=True, kw_only=True)
class _Category:
    """A category's real images as features (N, D): training, degraded, held out."""

    mean: Floats
    deviation: float
    train: Floats
    degraded: Floats
    reference: Floats


class Yardstick:
    """The real images of a model's categories, seen once, to hold samples against."""

    def __init__(
        self,
        train: dict[str, Array8],
        held_out: dict[str, Array8],
        features: Features | None = None,
    ) -> None:
        self.features = features or choose()
        self.held_out = min(len(images) for images in held_out.values())
        self._categories = {
            name: self._category(images, held_out[name]) for name, images in train.items()
        }

    def _category(self, train: Array8, held_out: Array8) -> _Category:
        chosen = np.linspace(0, len(train) - 1, min(len(train), TRAIN_IMAGES)).astype(int)
        train, see = train[chosen], self.features
        seen = see(train)
        mean, deviation = np.zeros(seen.shape[1]), 1.0
        if not see.raw:
            # Centred and scaled as a whole by the training images: a variance per feature would
            # let one that hardly varies rule the kernel.
            mean, deviation = seen.mean(axis=0), float(np.sqrt(seen.var(axis=0).mean()) + 1e-6)
        return _Category(
            mean=mean,
            deviation=deviation,
            train=(seen - mean) / deviation,
            degraded=(see(degrade(train)) - mean) / deviation,
            reference=(see(held_out) - mean) / deviation,
        )

    def measure(self, samples: dict[str, Array8]) -> dict[str, Any]:
        """Returns the health of a model per category and as a whole, from images (N, H, W, 3).

        `relative` is KID(samples) over KID(degraded), or over what normal images reach by chance
        where that is larger; `relative_to_train` is KID(samples) / |KID(train)|; all against the
        held-out images. The model passes when no category's `relative` is above 1 by more than
        two standard errors: a few dozen samples of a fine texture tell KID to a quarter only.
        """
        categories = {name: self._figures(name, images) for name, images in samples.items()}
        worst = max(figures["relative"] for figures in categories.values())
        return {
            "version": VERSION,
            "features": self.features.name,
            "samples_per_category": min(len(images) for images in samples.values()),
            "held_out_per_category": self.held_out,
            "categories": categories,
            "worst_relative": worst,
            "passed": all(f["relative"] - 2 * f["relative_error"] < 1 for f in categories.values()),
        }

    def _figures(self, name: str, samples: Array8) -> dict[str, float]:
        known = self._categories[name]
        seen = (self.features(samples) - known.mean) / known.deviation
        figures = {
            "kid": kid(seen, known.reference),
            "kid_error": kid_error(seen, known.reference),
            "kid_train": kid(known.train, known.reference),
            "kid_degraded": kid(known.degraded, known.reference),
            "kid_chance": _chance(known.train, known.reference, len(samples)),
        }
        yardstick = max(figures["kid_degraded"], figures["kid_chance"])
        figures["relative"] = figures["kid"] / max(yardstick, 1e-9)
        figures["relative_error"] = figures["kid_error"] / max(yardstick, 1e-9)
        figures["relative_to_train"] = figures["kid"] / max(abs(figures["kid_train"]), 1e-9)
        return figures


def measure(
    samples: dict[str, Array8],
    train: dict[str, Array8],
    held_out: dict[str, Array8],
    features: Features | None = None,
) -> dict[str, Any]:
    """Returns the health of samples against a model's real images, once (see `Yardstick`)."""
    return Yardstick(train, held_out, features).measure(samples)
