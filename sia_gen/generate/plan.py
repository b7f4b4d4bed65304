"""The plan: run options and facts -> shard specifications, minus the finished ones. Pure.

A specification holds everything that decides a shard's bytes and nothing else: not who makes it,
not when, not beside how many others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from sia_gen.core import keys
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options
from sia_gen.core.seeds import image_seed, image_strength
from sia_gen.core.store.objects import Location
from sia_gen.core.store.shards import is_done, record_path
from sia_gen.runs.spec import Spec

S = TypeVar("S", bound=Spec)

METHOD = "sdas-1"  # raise the number when the same options would give other pixels
MAX_SHARDS = 1_000_000
# What an image takes at the very least, as a share of its raw pixels.
LEAST_BYTES = {"png-1": 0.25, "webp-1": 0.2, "realnet-1": 0.02}
PARALLEL = 16  # requests at a time to an object store


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
    guidance_sha256: str = ""  # of the classifier's weights; empty without guidance
    guidance_scale: float = 0.0
    compile: bool = False
    method: str = METHOD
    format: str = "png-1"

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
    guidance_sha256: str
    guidance_scale: float
    compile: bool
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
        return sample_key(self.category, index)

    @property
    def side(self) -> int:
        """The side of the images, in pixels."""
        return self.resolution

    def expects(self, position: int) -> dict[str, Any]:
        """Returns what the metadata of an image of this shard must say."""
        index = self.first + position
        seed = self.image_seed(index)
        return {"index": index, "seed": seed, "strength": self.strength(seed)}


def sample_key(category: str, index: int) -> str:
    """Returns the key of an image of a category: no dots, ASCII and short, as tar readers need."""
    return keys.sample_key(keys.plain_name(category), index)


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


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns one line for each field that differs, `name: old -> new`."""
    names = sorted(set(old) | set(new))
    return [
        f"{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in names
        if old.get(name) != new.get(name)
    ]
