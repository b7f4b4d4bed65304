"""What a run of images makes: facts of the whole run -> the shards that are to be made. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.options import from_values
from sia_gen.core.pixels.encoding import find_encoding
from sia_gen.core.seeds import image_seed, image_strength
from sia_gen.runs.spec import Shard, cut, prefixes_of

METHOD = "sdas-1"  # raise the number when the same options would give other pixels


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What decides an image's pixels and bytes, beside its category and its index."""

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
    guidance_sha256: str = ""  # of the classifier's weights; empty without guidance
    guidance_scale: float = 0.0
    compile: bool = False
    method: str = METHOD
    format: str = "png-1"


@dataclass(frozen=True, kw_only=True)
class Recipe(Sampling):
    """What a whole run makes: the facts that a resumed run must share, all of them."""

    dataset: str
    categories: tuple[str, ...]
    per_category: int
    shard_size: int

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recipe:
        """Returns the recipe in a run.json; UserError where fields are missing or unknown."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != names:
            odd = sorted(names.symmetric_difference(value if isinstance(value, dict) else ()))
            raise UserError(f"run.json: recipe lacks or does not know: {', '.join(odd)}")
        recipe: Recipe = from_values(cls, value, "run.json: recipe")
        if min(recipe.per_category, recipe.shard_size, recipe.batch_size) < 1:
            raise UserError("run.json: its recipe makes no shards: expected sizes of at least 1")
        return recipe

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as a JSON object."""
        return {**asdict(self), "categories": list(self.categories)}

    @property
    def images(self) -> int:
        """The number of images of the whole run."""
        return self.per_category * len(self.categories)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageShard(Sampling, Shard):
    """One shard of images of a model: everything that decides their bytes."""

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

    @property
    def side(self) -> int:
        """The side of the images, in pixels."""
        return self.resolution

    @property
    def distinct(self) -> bool:
        """A model with distinct seeds makes no two equal images."""
        return True

    @property
    def truncate(self) -> bool:
        """Whether pixel values are cut off instead of rounded, as RealNet's authors did."""
        return find_encoding(self.format).name == "realnet"

    def expects(self, position: int) -> dict[str, Any]:
        """Returns what the metadata of an image of this shard must say."""
        index = self.first + position
        seed = self.image_seed(index)
        return {"index": index, "seed": seed, "strength": self.strength(seed)}


def specs(recipe: Recipe) -> list[ImageShard]:
    """Returns all shards of a run, category by category."""
    shared = {field.name: getattr(recipe, field.name) for field in fields(Sampling)}
    parts = cut(recipe.per_category, recipe.shard_size, len(recipe.categories))
    # Of a set of datasets the categories are named in full, dataset/category.
    split = [category.rpartition("/") for category in recipe.categories]
    named = [(dataset or recipe.dataset, category) for dataset, _, category in split]
    prefixes = prefixes_of(named)
    return [
        ImageShard(
            dataset=dataset,
            category=category,
            prefix=prefixes[dataset, category],
            **part,
            **shared,
        )
        for dataset, category in named
        for part in parts
    ]
