"""The health of a shard: broken images are counted by name, and too many fail the shard."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sia_gen.core.images import Array8
from sia_gen.core.provenance import sha256_bytes

# Shares of a shard's images. A diffusion model with distinct seeds makes neither flat images nor
# twins; one in a hundred is already a broken model or a broken device.
MAX_CONSTANT = 0.01
MAX_DUPLICATES = 0.01
MAX_SATURATED = 0.5  # dark or bright parts may legitimately clip
SATURATED_PIXELS = 0.9  # an image is saturated when this share of its values is 0 or 255


class UnhealthyShardError(RuntimeError):
    """A shard holds too many broken images to be published."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """Counts of broken images in a shard, and its mean grey level, 0 to 255."""

    images: int
    constant: int
    duplicates: int
    saturated: int
    mean_level: float

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as a JSON object."""
        return asdict(self)

    def require(self) -> None:
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


def measure(images: list[Array8]) -> Health:
    """Returns the health of a shard's images, uint8 (H, W, 3) each."""
    hashes = Counter(sha256_bytes(image.tobytes()) for image in images)
    saturated = [((image == 0) | (image == 255)).mean() >= SATURATED_PIXELS for image in images]
    return Health(
        images=len(images),
        constant=sum(int(image.min() == image.max()) for image in images),
        duplicates=len(images) - len(hashes),
        saturated=int(sum(saturated)),
        mean_level=round(float(sum(float(image.mean()) for image in images)) / len(images), 3),
    )
