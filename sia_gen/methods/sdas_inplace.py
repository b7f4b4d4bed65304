"""sdas-inplace: anomalies that SDAS has grown inside normal images, taken from finished shards.

`sia-gen synthesize --method sdas-inplace` makes the pairs. A pair belongs to one normal image, and
is found by the hash of its pixels at the pairs' own resolution. At another resolution the change
that was grown is enlarged (or reduced) and added to the normal image, which keeps its own grain: a
patch of a smaller image would be told by its softness alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from sia_gen.core.context import Context, ImagePool
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.masks import fit_mask
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store.shards import MASK, ShardReader

VERSION = 1  # raise it when the same options and generator would give other pairs
SHARDS = True  # takes images from shards


@dataclass(frozen=True, kw_only=True)
class Options:
    """There is nothing to choose: strength and depth were chosen when the pairs were made."""


def normal_hash(normal_HWC: Array8) -> str:
    """Returns what a normal image is known by: the SHA-256 of its pixels."""
    return sha256_bytes(np.ascontiguousarray(normal_HWC).tobytes())


class SdasInplace:
    """Draws one of the pairs that were grown in the very normal image it is given."""

    name = "sdas_inplace"

    def __init__(self, context: Context) -> None:
        self._reader = ShardReader(context.shards)
        grown: dict[str, list[int]] = {}
        for i, member in enumerate(self._reader.members):
            if MASK in member.extras and context.takes(member.key):
                normal = str(self._reader.metadata(i).get("normal_sha256"))
                grown.setdefault(normal, []).append(i)
        if not grown:
            raise UserError(
                f"sdas-inplace: the shards of {context.category} hold no pair grown in place that"
                " may be used: make them with `sia-gen synthesize --method sdas-inplace`"
            )
        self._pairs: dict[str, list[int]] = {}  # of a normal image at this resolution
        self._resized: dict[str, tuple[int, int]] = {}  # its index, and the side of its pairs
        self._pools: dict[int, ImagePool] = {}
        sides = sorted(self._sides(grown) - {context.resolution}) if context.image_at else []
        lacking = sum(not self._find(context, i, sides, grown) for i in range(context.normals))
        if lacking:
            raise UserError(
                f"sdas-inplace: {lacking} of {context.normals} normal images of"
                f" {context.category} have no pair: make pairs of this very data, whole images, at"
                " least one each (--per-category)"
            )

    def _sides(self, grown: dict[str, list[int]]) -> set[int]:
        """Returns the sides of the pairs, of one image a tar: a run makes them all alike."""
        first = {self._reader.members[i].path: i for own in grown.values() for i in own}
        return {len(self._reader.image(i)) for i in first.values()}

    def _find(
        self, context: Context, index: int, sides: list[int], grown: dict[str, list[int]]
    ) -> bool:
        """Notes the pairs of a normal image, of its own side rather than of another."""
        key = normal_hash(context.image(index))
        if key in grown:
            self._pairs[key] = grown[key]
            return True
        for side in sides:
            if side not in self._pools:
                self._pools[side] = _pool(context, side)
            found = grown.get(normal_hash(self._pools[side][index]))
            if found:
                self._pairs[key], self._resized[key] = found, (index, side)
                return True
        return False

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair that was grown in this normal image, the part of it inside the region."""
        key = normal_hash(normal)
        found = self._pairs.get(key)
        if not found:
            raise UserError("sdas-inplace: a normal image without a pair: it is not of this run")
        chosen = found[int(rng.integers(len(found)))]
        image, mask = self._reader.image(chosen), self._reader.extra(chosen, MASK)[..., 0] > 127
        if key in self._resized:
            index, side = self._resized[key]
            image = add_change(normal, self._pools[side][index], image)
            mask = fit_mask(mask, *normal.shape[:2])
        where = mask & region
        together = normal.copy()
        together[where] = image[where]
        return Pair(image=together, normal=normal, mask=where)


def _pool(context: Context, side: int) -> ImagePool:
    read = context.image_at
    assert read is not None
    return ImagePool(lambda i: read(i, side), context.normals)


def add_change(normal_HWC: Array8, before_hwc: Array8, after_hwc: Array8) -> Array8:
    """Returns an image with the change between two of another size added to it, uint8.

    The change is resized as images are (bilinear with antialiasing).
    """
    change = after_hwc.astype(np.float32) - before_hwc
    channels = [
        Image.fromarray(one).resize(normal_HWC.shape[1::-1], Image.Resampling.BILINEAR)
        for one in np.moveaxis(change, -1, 0)
    ]
    added = normal_HWC + np.stack([np.asarray(one) for one in channels], axis=-1)
    return np.rint(added).clip(0, 255).astype(np.uint8)


def build(options: Options, context: Context) -> SdasInplace:  # noqa: ARG001 - it has none
    """Returns the method; UserError where there are no pairs to take."""
    if not context.shards:
        message = (
            f"sdas-inplace needs pairs of {context.category}: make them with `sia-gen synthesize"
            " --method sdas-inplace` and give --shards"
        )
        raise UserError(message)
    return SdasInplace(context)
