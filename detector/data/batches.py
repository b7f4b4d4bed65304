"""Training batches: half anomalous pairs, half normal images, each a function of seed and step."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.data.normals import NormalImages
from sia_gen.core.context import Method
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.seeds import generator

MOST_WORKERS = 4  # threads that make batches, where the machine has that many cores to spare


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

    def __init__(
        self,
        normals: NormalImages,
        sources: Sequence[Method],
        size: int,
        seed: int,
        preparing: Sequence[Method] | None = None,
    ) -> None:
        """Takes a source for each category of the images, or none at all: no pairs then.

        `preparing` are those of feature selection where it needs its own: every process selects
        by the same pairs.
        """
        self.preparing = sources if preparing is None else preparing
        self.normals, self.sources, self.size, self.seed = normals, sources, size, seed
        self._orders: dict[int, npt.NDArray[np.intp]] = {}

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        orders = self._orders
        if epoch in orders:
            return orders[epoch]
        shuffled = generator(self.seed, "epoch", epoch).permutation(len(self.normals))
        order = shuffled.astype(np.intp)
        # A new dict, for other threads read the old one; one that is lost is made again, the same.
        self._orders = {**{e: o for e, o in orders.items() if e >= epoch - 2}, epoch: order}
        return order

    def _normal(self, step: int, slot: int) -> int:
        epoch, position = divmod(step * self.size + slot, len(self.normals))
        return int(self._order(epoch)[position])

    def _pair(self, kind: str, step: int, slot: int, index: int) -> Pair:
        rng = generator(self.seed, kind, step, slot)
        sources = self.preparing if kind == "afs" else self.sources
        source = sources[self.normals.part(index)]
        return source.pair(self.normals.image(index), self.normals.foreground(index), rng)

    def _stacked(self, pairs: list[Pair], indices: list[int]) -> Batch:
        side = self.normals.resolution
        images = [p.image for p in pairs] or np.empty((0, side, side, 3), dtype=np.uint8)
        masks = [p.mask for p in pairs] or np.empty((0, side, side), dtype=np.bool_)
        normal = np.array(indices, dtype=np.intp)
        return Batch(images=np.array(images), masks=np.array(masks), normal=normal)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Returns one process's share of batch `step`: every rank's slots together make the batch.

        Even slots are anomalous, odd ones normal; the order of the images is random already.
        """
        slots = range(rank * self.size // ranks, (rank + 1) * self.size // ranks)
        anomalous = [s for s in slots if s % 2 == 0 and self.sources]
        indices = [self._normal(step, s) for s in anomalous]
        indices += [self._normal(step, s) for s in slots if s not in anomalous]
        pairs = [
            self._pair("pair", step, slot, index)
            for slot, index in zip(anomalous, indices, strict=False)
        ]
        return self._stacked(pairs, indices)

    def anomalous(self, step: int) -> Batch:
        """Returns a batch of anomalous pairs only, for feature selection; not one of training's."""
        indices = [self._normal(step, slot) for slot in range(self.size)]
        pairs = [self._pair("afs", step, slot, index) for slot, index in enumerate(indices)]
        return self._stacked(pairs, indices)

    def stream(self, first: int, last: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Yields batches first .. last - 1, made in threads while earlier ones are used."""
        workers = max(1, min(MOST_WORKERS, (os.cpu_count() or 1) - 1))
        steps = iter(range(first, last))
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="batches") as pool:
            coming: deque[Future[Batch]] = deque()
            for step in itertools.islice(steps, workers):
                coming.append(pool.submit(self.batch, step, rank, ranks))
            while coming:
                batch = coming.popleft().result()
                for step in itertools.islice(steps, 1):
                    coming.append(pool.submit(self.batch, step, rank, ranks))
                yield batch
