"""A shard as a run folder knows it, whoever fills it. Pure, but for the look at what is done.

A specification holds everything that decides a shard's bytes and nothing else: not who makes it,
not when, not beside how many others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from sia_gen.core import keys
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8
from sia_gen.core.provenance import hash_options
from sia_gen.core.store.objects import Location
from sia_gen.core.store.paths import checked_name
from sia_gen.core.store.shards import is_done, record_path

S = TypeVar("S", bound="Shard")

MAX_SHARDS = 1_000_000
PARALLEL = 16  # requests at a time to an object store
SHOWN = 5  # differing options that a message names


@lru_cache(1024)
def _is_name(name: object) -> bool:
    """Returns whether a dataset or a category has a name that is one part of a path."""
    try:
        checked_name(name, "")
    except UserError:
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One shard, the unit of work: `count` samples of a category from index `first` on."""

    dataset: str
    category: str
    shard: int
    first: int
    count: int
    prefix: str = ""  # what its samples' keys begin with, where it is not the plain name

    def __post_init__(self) -> None:
        """Refuses what leads out of the run folder, whoever wrote the run.json that says it."""
        where = "the specification of a shard"
        if not (_is_name(self.dataset) and _is_name(self.category)):
            checked_name(self.dataset, f"{where}: dataset")
            checked_name(self.category, f"{where}: category")
        for number in (self.shard, self.first, self.count):
            if type(number) is not int or not 0 <= number < 2**63:
                raise UserError(f"{where}: {str(number)[:50]} is no number of images or shards")

    @property
    def key(self) -> str:
        """The category's full name, dataset/category."""
        return f"{self.dataset}/{self.category}"

    @property
    def name(self) -> str:
        """The shard's name, category-00000."""
        return f"{self.category}-{self.shard:05}"

    @property
    def label(self) -> str:
        """The shard's name in a run: of categories of one name in two datasets with the prefix."""
        return f"{self.prefix or self.category}-{self.shard:05}"

    @property
    def file(self) -> str:
        """The tar's path inside the run folder, with forward slashes."""
        return f"shards/{self.dataset}/{self.category}/{self.name}.tar"

    @property
    def spec_hash(self) -> str:
        """The hash that a finished shard's record must carry."""
        return hash_options(self.to_json())

    @property
    def side(self) -> int | None:
        """The side of the images in pixels; None for any."""
        return None

    @property
    def distinct(self) -> bool:
        """Whether two equal images in a run are a fault."""
        return False

    @property
    def extras(self) -> tuple[str, ...]:
        """The suffixes of the images that follow each sample's own, such as .mask.png."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Returns the specification as a JSON object: what its hash is of."""
        found = asdict(self)
        if not self.prefix:
            del found["prefix"]  # specifications of before there were prefixes keep their hash
        return found

    def indices(self) -> range:
        """Returns the indices of the shard's samples inside their category."""
        return range(self.first, self.first + self.count)

    def sample_key(self, index: int) -> str:
        """Returns a sample's key in the tar: no dots, ASCII and short, as tar readers need."""
        return keys.sample_key(self.prefix or keys.plain_name(self.category), index)

    def expects(self, position: int) -> dict[str, Any]:
        """Returns what the metadata of a sample of this shard must say."""
        return {"index": self.first + position}

    def fault(self, sample: Mapping[str, Any], images: Mapping[str, Array8]) -> str:
        """Returns what is wrong with a sample's images (by suffix, its own under ""), or "".

        Asked by verification beside what it compares itself: size, pixels, metadata.
        """
        del sample, images
        return ""


def prefixes_of(categories: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Returns the `prefix` of each (dataset, category) of a run: "" where the plain name is own."""
    found = keys.key_prefixes(categories)
    return {
        pair: "" if prefix == keys.plain_name(pair[1]) else prefix for pair, prefix in found.items()
    }


def cut(samples: int, size: int, categories: int = 1) -> list[dict[str, Any]]:
    """Returns shard, first and count of each shard of a category; UserError for far too many."""
    if min(samples, size) < 1:
        raise UserError(f"{samples} images in shards of {size} make no shard: expected at least 1")
    shards = -(-samples // size)
    if shards * categories > MAX_SHARDS:
        message = (
            f"{shards * categories} shards are planned, more than {MAX_SHARDS}: raise --shard-size"
            f" {size}"
        )
        raise UserError(message)
    return [
        {"shard": shard, "first": shard * size, "count": min(size, samples - shard * size)}
        for shard in range(shards)
    ]


def remaining(planned: Iterable[S], run: Location) -> list[S]:
    """Returns the shards whose record is absent, torn, or made to another specification."""

    def missing(spec: S) -> bool:
        # Asked first, for it is a hundred times cheaper than a specification's hash.
        return not record_path(run / spec.file).is_file() or not is_done(
            run / spec.file, spec.spec_hash
        )

    if isinstance(run, Path):
        return [spec for spec in planned if missing(spec)]
    listed = list(planned)
    records = {str(path) for path in (run / "shards").rglob("*.json")}
    there = [spec for spec in listed if str(record_path(run / spec.file)) in records]
    with ThreadPoolExecutor(PARALLEL) as pool:
        done = {s.file for s, gone in zip(there, pool.map(missing, there), strict=True) if not gone}
    return [spec for spec in listed if spec.file not in done]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns one line for each value that differs, `name: old -> new`, nested names dotted."""
    before, after = dict(_flat(old)), dict(_flat(new))

    def shown(values: dict[str, Any], name: str) -> str:
        text = str(values.get(name, "absent"))
        return text if len(text) <= 100 else f"{text[:97]}..."

    return [
        f"{name}: {shown(before, name)} -> {shown(after, name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
