"""Training batches: half anomalous pairs, half normal images; batch k is a function of (seed, k).

A source makes the anomalies: `sdas` takes synthetic images from shards and blends them in through
Perlin masks (RealNet, Eq. 3); `noise` draws rectangles of plain Gaussian noise, the trivial rival
that any synthesis has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sia_gen.core import foreground
from sia_gen.core.errors import UserError
from sia_gen.core.images import Array8, Mask, read_image, resize_image
from sia_gen.core.pairs import OPACITY_SDAS, Pair, blend, make_pair
from sia_gen.core.seeds import derive_seed, generator
from sia_gen.core.shards import ShardReader, read_record

MEMORY_BYTES = 4 << 30  # decoded images kept in memory; beyond, images are decoded at each use


class ImagePool:
    """Images by index, uint8 (R, R, 3), decoded once and kept while they fit in memory."""

    def __init__(self, read: Callable[[int], Array8], count: int, resolution: int) -> None:
        self._read = read
        self._count = count
        self._kept: dict[int, Array8] = {}
        self._room = MEMORY_BYTES // (resolution * resolution * 3)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Array8:
        image = self._kept.get(index)
        if image is None:
            image = self._read(index)
            if len(self._kept) < self._room:
                self._kept[index] = image
        return image


class NormalImages:
    """A category's normal training images at one resolution, with their foregrounds."""

    def __init__(self, paths: tuple[Path, ...], rule: str, resolution: int) -> None:
        self.paths = paths
        self.resolution = resolution
        self._rule = rule
        self._images = ImagePool(lambda i: read_image(paths[i], resolution), len(paths), resolution)
        self._foregrounds: dict[int, Mask] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Array8:
        """Returns image `index`, uint8 (R, R, 3)."""
        return self._images[index]

    def foreground(self, index: int) -> Mask:
        """Returns where an anomaly may be placed on image `index`, bool (R, R)."""
        mask = self._foregrounds.get(index)
        if mask is None:
            mask = foreground.estimate(self.image(index), self._rule)
            self._foregrounds[index] = mask
        return mask

    def stack(self, indices: npt.NDArray[np.intp]) -> Array8:
        """Returns several images, uint8 (B, R, R, 3)."""
        return np.stack([self.image(int(i)) for i in indices])


class Source(Protocol):
    """What makes anomalous pairs out of normal images."""

    name: str

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns one pair; its mask lies inside the region and may come out empty."""
        ...


class SdasSource:
    """Synthetic images of finished shards, blended in through Perlin masks (RealNet, Eq. 3)."""

    name = "sdas"

    def __init__(self, tars: list[Path], resolution: int) -> None:
        reader = ShardReader(tars)
        self._images = ImagePool(
            lambda i: resize_image(reader.image(i), resolution), len(reader), resolution
        )

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair with a random synthetic image and an opacity uniform in [0.5, 1]."""
        synthetic = self._images[int(rng.integers(len(self._images)))]
        return make_pair(normal, synthetic, region, OPACITY_SDAS, rng)


class NoiseSource:
    """Rectangles of plain Gaussian noise: no synthesis at all, the row to be compared with."""

    name = "noise"
    sides = (0.1, 0.4)  # of a rectangle, as shares of the image's side
    mean, deviation = 128.0, 50.0  # grey levels of the noise

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns a pair with one noise rectangle and an opacity uniform in [0.5, 1]."""
        size = normal.shape[0]
        height, width = np.maximum(1, np.rint(rng.uniform(*self.sides, 2) * size)).astype(int)
        top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        mask = np.zeros((size, size), dtype=np.bool_)
        mask[top : top + height, left : left + width] = True
        mask &= region
        noise = rng.normal(self.mean, self.deviation, normal.shape)
        patch = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
        opacity = float(rng.uniform(*OPACITY_SDAS))
        return Pair(image=blend(normal, patch, mask, opacity), normal=normal, mask=mask)


def check_category(tars: list[Path], category: str, *, allow_foreign: bool) -> None:
    """Raises UserError where a shard was made for another category than the one to be trained."""
    for tar in tars:
        found = str((read_record(tar) or {}).get("category", "unknown"))
        if found != category and not allow_foreign:
            raise UserError(
                f"{tar} holds synthetic images of {found}, not of {category}: give that category's"
                " shards, or --allow-foreign-shards if this is what you want"
            )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Batch k. `normal` indexes all B normal images; the first A of them have anomalous versions.

    images uint8 (A, R, R, 3), masks bool (A, R, R). The other B - A are trained on as they are.
    """

    images: Array8
    masks: Mask
    normal: npt.NDArray[np.intp]


class Batches:
    """The stream of training batches. Any batch can be asked for at any time, in any process."""

    def __init__(self, normals: NormalImages, source: Source, size: int, seed: int) -> None:
        self.normals, self.source, self.size, self.seed = normals, source, size, seed
        self._orders: dict[int, npt.NDArray[np.intp]] = {}

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 2}
            shuffled = generator(self.seed, "epoch", epoch).permutation(len(self.normals))
            self._orders[epoch] = shuffled.astype(np.intp)
        return self._orders[epoch]

    def _normal(self, step: int, slot: int) -> int:
        epoch, position = divmod(step * self.size + slot, len(self.normals))
        return int(self._order(epoch)[position])

    def _pair(self, kind: str, step: int, slot: int, index: int) -> Pair:
        rng = generator(self.seed, kind, step, slot)
        return self.source.pair(self.normals.image(index), self.normals.foreground(index), rng)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Returns one process's share of batch `step`: every rank's slots together make the batch.

        Even slots are anomalous, odd ones normal; the order of the images is random already.
        """
        slots = range(rank * self.size // ranks, (rank + 1) * self.size // ranks)
        anomalous = [s for s in slots if s % 2 == 0]
        indices = [self._normal(step, s) for s in anomalous]
        indices += [self._normal(step, s) for s in slots if s % 2 == 1]
        pairs = [
            self._pair("pair", step, slot, index)
            for slot, index in zip(anomalous, indices, strict=False)
        ]
        return Batch(
            images=np.stack([p.image for p in pairs]),
            masks=np.stack([p.mask for p in pairs]),
            normal=np.array(indices, dtype=np.intp),
        )

    def anomalous(self, step: int) -> Batch:
        """Returns a batch of anomalous pairs only, for feature selection; not one of training's."""
        indices = [self._normal(step, slot) for slot in range(self.size)]
        pairs = [self._pair("afs", step, slot, index) for slot, index in enumerate(indices)]
        return Batch(
            images=np.stack([p.image for p in pairs]),
            masks=np.stack([p.mask for p in pairs]),
            normal=np.array(indices, dtype=np.intp),
        )

    def stream(self, first: int, last: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Yields batches first .. last - 1, each made in a thread while the one before is used."""
        if first >= last:
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
            coming: Future[Batch] = pool.submit(self.batch, first, rank, ranks)
            for step in range(first, last):
                batch = coming.result()
                if step + 1 < last:
                    coming = pool.submit(self.batch, step + 1, rank, ranks)
                yield batch


def is_held_out(path: Path, category: str, share: float) -> bool:
    """Returns whether a normal training image belongs to the held-out share, by its name's hash."""
    return derive_seed("holdout", category, path.name) / 2**63 < share
