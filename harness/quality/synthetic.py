"""The synthetic images of one category: files read at random, or a stream read once a pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8
from sia_gen.core.store.shards import ShardReader
from sia_gen.streams.addresses import Tars


class Images(Protocol):
    """Images in a fixed order, uint8 (H, W, 3), with their keys and metadata."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Array8]: ...

    def key(self, index: int) -> str:
        """Returns the key of an image."""

    def metadata(self, index: int) -> dict[str, Any]:
        """Returns what was recorded with an image."""

    def some(self, indices: Collection[int]) -> dict[int, Array8]:
        """Returns a few images by their places."""


class Stored:
    """Images of local shards."""

    def __init__(self, tars: Tars) -> None:
        self._reader = ShardReader(Path(url) for url in tars.urls)

    def __len__(self) -> int:
        return len(self._reader)

    def __iter__(self) -> Iterator[Array8]:
        return iter(self._reader)

    def key(self, index: int) -> str:
        """Returns the key of an image."""
        return self._reader.members[index].key

    def metadata(self, index: int) -> dict[str, Any]:
        """Returns what was recorded with an image."""
        return self._reader.metadata(index)

    def some(self, indices: Collection[int]) -> dict[int, Array8]:
        """Returns a few images by their places."""
        return {index: self._reader.image(index) for index in indices}


class Streamed:
    """Images of a WebDataset, in the order of its tars: a process reads and decodes them ahead.

    Keys and metadata are kept from a first pass; images pass by and are never held or copied.
    """

    def __init__(self, tars: Tars, limit: int | None) -> None:
        self._urls, self._limit = tars.urls, limit

    @cached_property
    def _known(self) -> list[tuple[str, dict[str, Any]]]:
        from sia_gen.streams.pipeline import stream

        samples = islice(stream(self._urls, workers=0, pixels=False), self._limit)
        # Of the metadata only what is asked for later: a stream may be long.
        known = [(s.key, {k: v for k, v in s.metadata.items() if k == "strength"}) for s in samples]
        if not known:
            raise UserError(f"{self._urls[0]}: the stream holds no image")
        return known

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Array8]:
        from sia_gen.streams.pipeline import stream

        for sample in islice(stream(self._urls), len(self)):
            if sample.image is not None:
                yield sample.image

    def key(self, index: int) -> str:
        """Returns the key of an image."""
        return self._known[index][0]

    def metadata(self, index: int) -> dict[str, Any]:
        """Returns what was recorded with an image and is asked for here: its strength."""
        return self._known[index][1]

    def some(self, indices: Collection[int]) -> dict[int, Array8]:
        """Returns a few images by their places, in one pass."""
        wanted = set(indices)
        return {index: image for index, image in enumerate(self) if index in wanted}
