"""sdas-inplace: anomalies that SDAS has grown inside normal images, taken from finished shards.

`sia-gen synthesize --method sdas-inplace` makes the pairs. A pair belongs to one normal image, and
is found by the hash of its pixels: the normal image must be there at the pairs' own resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sia_gen.core.context import Context
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask
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
        self._pairs: dict[str, list[int]] = {}
        for i, member in enumerate(self._reader.members):
            if MASK in member.extras and context.takes(member.key):
                normal = str(self._reader.metadata(i).get("normal_sha256"))
                self._pairs.setdefault(normal, []).append(i)
        if not self._pairs:
            raise UserError(
                f"sdas-inplace: the shards of {context.category} hold no pair grown in place that"
                " may be used: make them with `sia-gen synthesize --method sdas-inplace`"
            )
        lacking = [i for i in range(context.normals) if not self._of(context.image(i))]
        if lacking:
            raise UserError(
                f"sdas-inplace: {len(lacking)} of {context.normals} normal images of"
                f" {context.category} have no pair at {context.resolution} pixels: make pairs of"
                " this data at this --resolution, at least one a normal image (--per-category)"
            )

    def _of(self, normal: Array8) -> list[int]:
        return self._pairs.get(normal_hash(normal), [])

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair that was grown in this normal image, the part of it inside the region."""
        found = self._of(normal)
        if not found:
            raise UserError("sdas-inplace: a normal image without a pair: it is not of this run")
        chosen = found[int(rng.integers(len(found)))]
        mask = (self._reader.extra(chosen, MASK)[..., 0] > 127) & region
        image = normal.copy()
        image[mask] = self._reader.image(chosen)[mask]
        return Pair(image=image, normal=normal, mask=mask)


def build(options: Options, context: Context) -> SdasInplace:  # noqa: ARG001 - it has none
    """Returns the method; UserError where there are no pairs to take."""
    if not context.shards:
        message = (
            f"sdas-inplace needs pairs of {context.category}: make them with `sia-gen synthesize"
            " --method sdas-inplace` and give --shards"
        )
        raise UserError(message)
    return SdasInplace(context)
