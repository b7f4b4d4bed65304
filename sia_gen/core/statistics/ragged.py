"""Maps of images that differ in size, in one flat array that may be memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sia_gen.core.errors import UserError

Size = tuple[int, int]


class Ragged:
    """Maps of unlike sizes: item i is (H_i, W_i), and so is each while iterated.

    A slice, or an array of places or of booleans, gives fewer of them; nothing is copied.
    """

    ndim = 3

    def __init__(
        self, flat: npt.NDArray[Any], sizes: Sequence[Size], starts: Sequence[int] | None = None
    ) -> None:
        """Takes the values of all maps, one after the other, row by row."""
        self.flat, self.sizes = flat, [(int(h), int(w)) for h, w in sizes]
        ends = np.cumsum([h * w for h, w in self.sizes])
        self._starts = [0, *ends[:-1].tolist()] if starts is None else list(starts)
        if starts is None and flat.shape != (int(ends[-1]) if len(ends) else 0,):
            raise UserError(f"{flat.shape} values do not fill maps of {len(self.sizes)} sizes")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | np.integer):
            start, (height, width) = self._starts[which], self.sizes[which]
            return self.flat[start : start + height * width].reshape(height, width)
        places = np.arange(len(self))[which]
        sizes, starts = [self.sizes[i] for i in places], [self._starts[i] for i in places]
        return Ragged(self.flat, sizes, starts)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    @property
    def size(self) -> int:
        """The pixels of all maps."""
        return sum(h * w for h, w in self.sizes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self.flat.dtype

    @property
    def shape(self) -> tuple[Any, ...]:
        """The number of maps and their sizes: equal where two have the same maps."""
        return len(self), *self.sizes


Stack = npt.NDArray[Any] | Ragged


def stacked(arrays: Sequence[npt.NDArray[Any]]) -> Stack:
    """Returns arrays (H, W) as one (N, H, W), or as maps of unlike sizes."""
    if len({a.shape for a in arrays}) == 1:
        return np.stack(arrays)
    flat = np.concatenate([a.ravel() for a in arrays])
    return Ragged(flat, [(a.shape[0], a.shape[1]) for a in arrays])
