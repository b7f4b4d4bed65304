"""What a kind of content is to the factory, and what all kinds share.

A module of `contents/` says what its shards are (`planned`), checks a new run (`prepare`), fills a
shard (`load` gives a Maker), and says what the dataset card tells. Job, executors, lock, claims,
publishing, verification, repair, retry, status and indices are the same for all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from sia_gen.core.data.dataset import Dataset, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.options import from_values
from sia_gen.core.store.objects import Location
from sia_gen.core.store.tars import Tar
from sia_gen.generate.card import Card
from sia_gen.runs import folder
from sia_gen.runs.index import Finished
from sia_gen.runs.progress import readable_size
from sia_gen.runs.spec import Shard, remaining


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker is told once, plain values only; all else stands in the specifications."""

    kind: str  # of content, as in run.json
    run: str  # an absolute folder, or an address
    given: dict[str, Any] = field(default_factory=dict)  # where things lie, and Prepared.measured
    device: str = "auto"
    threads: int = 1  # CPUs that a worker asks a cluster for
    token: str | None = None  # of the lock of the run folder; None for none


@dataclass(frozen=True, kw_only=True)
class Made:
    """A filled shard: its tar, what its record says beside the tar's facts, and how it was made
    (`made`: all that may differ between two makings of the same shard)."""

    tar: Tar
    facts: dict[str, Any]
    made: dict[str, Any]


class Maker(Protocol):
    """Fills shards in a worker, one after another."""

    @property
    def device(self) -> object:
        """Where it computes; str() names it."""

    def prepare(self, spec: Any) -> None:
        """Loads what a specification asks for, unless it is there already.

        UserError where that is not what it was when the run was planned: it ends the run.
        """

    def make(self, spec: Any, on_images: Callable[[int], None]) -> Made:
        """Returns the filled shard; calls on_images with the samples made so far.

        An exception costs the shard an attempt; the others go on.
        """


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that was checked and may start; nothing is written yet."""

    kind: str
    out: Location
    recipe: dict[str, Any]  # what a resumed run must share
    facts: dict[str, Any]  # for run.json, beside the recipe
    given: dict[str, Any]  # for the workers
    planned: Sequence[Shard]
    threads: int = 1
    least_bytes: float = 0.0  # what a sample takes at the very least; 0 for unknown
    summary: dict[str, Any] | None = None  # what index.json says in place of the recipe

    @cached_property
    def exists(self) -> bool:
        """Whether the folder is this run already; UserError where it is another one."""
        return folder.require_same(self.out, self.kind, self.recipe)

    @cached_property
    def missing(self) -> Sequence[Shard]:
        """The shards that were not there when this was asked first."""
        return remaining(self.planned, self.out) if self.exists else self.planned

    @property
    def document(self) -> dict[str, Any]:
        """What run.json says of the run before it has started."""
        return folder.document(self.kind, self.recipe, **self.facts)

    def measured(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Returns what is measured once, before the first shard, kept in run.json and told to the
        workers; `stored` is the run.json that is there, or {}."""
        del stored
        return {}

    def require_room(self) -> None:
        """Raises UserError for a folder of another run and for a disk without the room."""
        images = sum(spec.count for spec in self.missing)
        if not isinstance(self.out, Path):
            return  # a bucket does not say how much it takes
        place = self.out
        while not place.exists():
            place = place.parent
        needed, free = int(images * self.least_bytes), shutil.disk_usage(place).free
        if needed > free:
            message = (
                f"output {self.out}: {images} images need at least {readable_size(needed)}, but"
                f" only {readable_size(free)} are free in {place}: free space, or give another"
                " --out"
            )
            raise UserError(message)


class Content(Protocol):
    """A module of contents/. It must be importable wherever a worker starts, and quickly: torch
    and the like are imported where they are used."""

    KIND: str  # in run.json, "sia-gen ..."
    HEAVY: bool  # loads a model: workers of their own, and GPUs where there are any

    def prepare(self, options: Any) -> Prepared:
        """Returns a checked run; UserError names what is wrong with options, data or output."""

    def planned(self, document: dict[str, Any]) -> Sequence[Shard]:
        """Returns all shards that a folder with this run.json is to hold."""

    def stored(
        self, document: dict[str, Any], out: str, *, data: str | None, model: str | None
    ) -> Prepared:
        """Returns the run of this run.json, checked again, with data and model moved if given."""

    def load(self, config: WorkerConfig) -> Maker:
        """Returns what fills shards in this process."""

    def card(self, document: dict[str, Any], finished: Finished) -> Card:
        """Returns what the dataset card says."""


def open_apart(
    data: str, out: str, value_range: tuple[float, float] | None = None
) -> tuple[Dataset, Location]:
    """Returns the dataset and the output folder; UserError where one lies inside the other."""
    place = folder.check_output(out)
    dataset = open_dataset(data, value_range)
    for root in dataset.roots:
        folder.require_apart(place, root)
    return dataset, place


def stored_text(document: dict[str, Any], name: str, otherwise: str) -> str:
    """Returns a text of run.json, or `otherwise` where it has none; UserError for another type."""
    found = document.get(name, otherwise)
    if not isinstance(found, str):
        raise UserError(f"{folder.NAME}: {name}: expected a text, found {str(found)[:100]!r}")
    return found


def stored_options(cls: type[Any], document: dict[str, Any], **changes: Any) -> Any:
    """Returns the options in a run.json, changed; UserError where they are not readable."""
    try:
        values = {**document["options"], **changes}
        given = tuple((str(name), value) for name, value in values.pop("settings", ()))
        options = from_values(cls, values, f"{folder.NAME}: options")
        return replace(options, settings=given) if given else options
    except (KeyError, TypeError, ValueError) as error:
        message = f"{folder.NAME}: its options are not readable: {error}"
        raise UserError(message) from error
