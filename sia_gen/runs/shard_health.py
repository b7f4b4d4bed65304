"""The health of a shard: broken images are counted by name, and too many fail the shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sia_gen.core.pixels.images import Array8

# Shares of a shard's images. A diffusion model with distinct seeds makes neither flat images nor
# twins; one in a hundred is already a broken model or a broken device.
MAX_CONSTANT = 0.01
MAX_DUPLICATES = 0.01
MAX_SATURATED = 0.5  # dark or bright parts may legitimately clip
SATURATED_PIXELS = 0.9  # an image is saturated when this share of its values is 0 or 255
# Grey levels between the mean of a shard and that of the normal images, beside three standard
# deviations of the normals' own means. Anomalies change a part's brightness a little; a washed-out
# or black picture is a broken model.
MAX_SHIFT = 40.0


class UnhealthyShardError(RuntimeError):
    """A shard holds too many broken images to be published."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The brightness of a category's normal images: mean grey level and its spread, 0 to 255."""

    mean: float
    spread: float

    @property
    def allowed(self) -> float:
        """How far from the mean a shard may be, in grey levels."""
        return MAX_SHIFT + 3.0 * self.spread


@dataclass(frozen=True, kw_only=True)
class Health:
    """Counts of broken images in a shard, and its mean grey level, 0 to 255.

    `non_finite` is 0 in every published shard: such a batch fails its shard at once.
    """

    images: int
    non_finite: int
    constant: int
    duplicates: int
    saturated: int
    mean_level: float
    normal_level: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as a JSON object."""
        return asdict(self)

    def require(self, normal: Levels | None = None) -> None:
        """Raises UnhealthyShardError with the figure and its limit."""
        for name, limit in (
            ("constant", MAX_CONSTANT),
            ("duplicates", MAX_DUPLICATES),
            ("saturated", MAX_SATURATED),
        ):
            count = getattr(self, name)
            if count > limit * self.images:
                message = (
                    f"{count} of {self.images} images are {name}, more than {limit:.0%}: the model"
                    " or the device is broken; nothing was published"
                )
                raise UnhealthyShardError(message)
        if normal is not None and abs(self.mean_level - normal.mean) > normal.allowed:
            message = (
                f"the mean brightness is {self.mean_level:.0f}, that of the normal images"
                f" {normal.mean:.0f} (at most {normal.allowed:.0f} apart): the model or the device"
                " is broken; nothing was published (--force makes shards of such a model)"
            )
            raise UnhealthyShardError(message)


class HealthMeter:
    """Looks at a shard's images one after another and keeps none of them."""

    def __init__(self) -> None:
        self._images = self._constant = self._saturated = 0
        self._level = 0.0
        self._hashes: set[str] = set()

    def add(self, image: Array8, pixels_sha256: str) -> None:
        """Looks at one image, uint8 (H, W, 3), whose pixels have this hash."""
        self._images += 1
        self._constant += int(image.min() == image.max())
        # 255 wraps to 0 and 0 to 1: one comparison finds both ends.
        ends = np.count_nonzero(image + np.uint8(1) <= 1)
        self._saturated += int(ends >= SATURATED_PIXELS * image.size)
        self._level += float(image.mean())
        self._hashes.add(pixels_sha256)

    def result(self, normal: Levels | None = None) -> Health:
        """Returns the health of the images so far."""
        return Health(
            images=self._images,
            non_finite=0,
            constant=self._constant,
            duplicates=self._images - len(self._hashes),
            saturated=self._saturated,
            mean_level=round(self._level / max(1, self._images), 3),
            normal_level=None if normal is None else round(normal.mean, 3),
        )
