"""The plan: run options and facts -> shard specifications, minus the finished ones. Pure.

A specification holds everything that decides a shard's bytes and nothing else: not who makes it,
not when, not beside how many others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options
from sia_gen.core.seeds import image_seed, image_strength
from sia_gen.core.shards import is_done, record_path

METHOD = "sdas-1"  # raise the number when the same options would give other pixels
FORMAT = "png-1"  # PNG at zlib level 1
MAX_SHARDS = 1_000_000
# What a PNG of a photograph takes at the very least, as a share of its raw pixels.
LEAST_BYTES, USUAL_BYTES = 0.25, 0.75


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a whole run makes: the facts that a resumed run must share, all of them."""

    dataset: str
    categories: tuple[str, ...]
    per_category: int
    s_low: float
    s_high: float
    seed: int
    shard_size: int
    batch_size: int
    threads: int
    steps: int
    sampler: str
    precision: str
    checkpoint_sha256: str
    resolution: int
    method: str = METHOD
    format: str = FORMAT

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recipe:
        """Returns the recipe in a run.json; UserError where fields are missing or unknown."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != names:
            odd = sorted(names.symmetric_difference(value if isinstance(value, dict) else ()))
            raise UserError(f"run.json: recipe lacks or does not know: {', '.join(odd)}")
        return cls(**{**value, "categories": tuple(value["categories"])})

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as a JSON object."""
        return {**asdict(self), "categories": list(self.categories)}

    @property
    def images(self) -> int:
        """The number of images of the whole run."""
        return self.per_category * len(self.categories)

    @property
    def raw_bytes(self) -> int:
        """The size of the run's uncompressed pixels, in bytes."""
        return self.images * 3 * self.resolution**2


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSpec:
    """One shard, the unit of work: `count` images of a category from index `first` on."""

    dataset: str
    category: str
    shard: int
    first: int
    count: int
    seed: int
    s_low: float
    s_high: float
    batch_size: int
    threads: int
    steps: int
    sampler: str
    precision: str
    checkpoint_sha256: str
    resolution: int
    method: str
    format: str

    @property
    def key(self) -> str:
        """The category's full name, dataset/category."""
        return f"{self.dataset}/{self.category}"

    @property
    def name(self) -> str:
        """The shard's name, category-00000."""
        return f"{self.category}-{self.shard:05}"

    @property
    def file(self) -> str:
        """The tar's path inside the run folder, with forward slashes."""
        return f"shards/{self.dataset}/{self.category}/{self.name}.tar"

    @property
    def spec_hash(self) -> str:
        """The hash that a finished shard's record must carry."""
        return hash_options(asdict(self))

    def indices(self) -> range:
        """Returns the indices of the shard's images inside their category."""
        return range(self.first, self.first + self.count)

    def image_seed(self, index: int) -> int:
        """Returns the seed of one image: run seed, category and index decide it."""
        return image_seed(self.seed, self.key, index)

    def batches(self) -> Iterator[range]:
        """Yields the fixed batch grid: what is computed together is part of the result's bits."""
        indices = self.indices()
        for start in range(0, self.count, self.batch_size):
            yield indices[start : start + self.batch_size]

    def strength(self, seed: int) -> float:
        """Returns the strength of the image with this seed."""
        return image_strength(seed, self.s_low, self.s_high)

    def sample_key(self, index: int) -> str:
        """Returns an image's key in the tar: no dots, ASCII and short, as tar readers need."""
        return f"{re.sub(r'[^A-Za-z0-9_-]', '_', self.category)[:60]}-{index:08}"


def specs(recipe: Recipe) -> list[ShardSpec]:
    """Returns all shards of a run, category by category."""
    shards = -(-recipe.per_category // recipe.shard_size)
    total = shards * len(recipe.categories)
    if total > MAX_SHARDS:
        message = (
            f"{total} shards are planned, more than {MAX_SHARDS}: raise --shard-size"
            f" {recipe.shard_size}"
        )
        raise UserError(message)
    shared = {
        field.name: getattr(recipe, field.name)
        for field in fields(recipe)
        if field.name not in {"dataset", "categories", "per_category", "shard_size"}
    }
    # Of a set of datasets the categories are named in full, dataset/category.
    named = [category.rpartition("/") for category in recipe.categories]
    return [
        ShardSpec(
            dataset=dataset or recipe.dataset,
            category=category,
            shard=shard,
            first=shard * recipe.shard_size,
            count=min(recipe.shard_size, recipe.per_category - shard * recipe.shard_size),
            **shared,
        )
        for dataset, _, category in named
        for shard in range(shards)
    ]


def remaining(planned: Iterable[ShardSpec], run: Path) -> list[ShardSpec]:
    """Returns the shards whose record is absent, torn, or made to another specification."""
    return [
        spec
        for spec in planned
        # Asked first, for it is a hundred times cheaper than a specification's hash.
        if not record_path(run / spec.file).is_file()
        or not is_done(run / spec.file, spec.spec_hash)
    ]


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns one line for each field that differs, `name: old -> new`."""
    names = sorted(set(old) | set(new))
    return [
        f"{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in names
        if old.get(name) != new.get(name)
    ]
