"""What one detector is trained on: a category, or several in one model (multi-class)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, read_image
from sia_gen.core.pixels.ranges import ValueRange
from sia_gen.streams.addresses import Tars

MULTI_CLASS = "multi-class"


@dataclass(frozen=True, kw_only=True)
class Task:
    """The categories of one detector, each with the finished shards it may draw from."""

    dataset: str
    name: str
    categories: tuple[Category, ...]
    tars: tuple[tuple[Path, ...], ...]
    data: str = ""  # what --data opens them with again, from any working folder
    streams: tuple[Tars, ...] = ()  # in place of shards, one for each category (--stream)

    @property
    def key(self) -> str:
        """The task's full name: dataset/category, or dataset/multi-class."""
        return f"{self.dataset}/{self.name}"

    @property
    def all_tars(self) -> list[Path]:
        """The shards of all categories, each once."""
        return sorted({tar for own in self.tars for tar in own})

    def read_image(self, path: Path, size: int | None = None) -> Array8:
        """Returns an image of one of its categories, uint8 RGB, read with that one's range."""
        return read_image(path, size, self._ranges.get(path))

    @cached_property
    def _ranges(self) -> dict[Path, ValueRange]:
        return {
            path: value_range
            for category in self.categories
            if (value_range := category.value_range) is not None
            for path in (*category.train, *(e.path for e in category.test))
        }

    @property
    def value_ranges(self) -> dict[str, list[float]]:
        """The range of each category whose files have more than 8 bits, by its full name."""
        found = {c.key: c.value_range for c in self.categories}
        return {key: list(known) for key, known in found.items() if known is not None}


def single(
    category: Category, tars: list[Path], data: str = "", stream: Tars | None = None
) -> Task:
    """Returns the task of one category."""
    return Task(
        dataset=category.dataset,
        name=category.name,
        categories=(category,),
        tars=(tuple(tars),),
        data=data,
        streams=() if stream is None else (stream,),
    )


def together(parts: list[Task]) -> Task:
    """Returns one task of all categories: one model that is not told which one it sees."""
    datasets = {part.dataset for part in parts}
    if len(datasets) != 1:
        raise UserError(f"one model needs one dataset, found {', '.join(sorted(datasets))}")
    if any(part.name == MULTI_CLASS for part in parts):
        raise UserError(f"a category named {MULTI_CLASS} cannot be part of a multi-class model")
    return Task(
        dataset=parts[0].dataset,
        name=MULTI_CLASS,
        categories=tuple(c for part in parts for c in part.categories),
        tars=tuple(t for part in parts for t in part.tars),
        data=parts[0].data,
        streams=tuple(s for part in parts for s in part.streams),
    )
