"""Training pairs of a synthesis method: image, mask, provenance. What `sia-gen synthesize` makes.

Pair k of a category is a function of (seed, category, k), the options and the files it is made
from. The tar holds <key>.json, <key>.png, <key>.mask.png and, if asked for, <key>.normal.png.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sia_gen import methods
from sia_gen.core import plugins
from sia_gen.core.context import Context, Method, context_of
from sia_gen.core.data.category import Category, as_recorded
from sia_gen.core.data.dataset import Dataset, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.options import from_values
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.provenance import hash_options, versions
from sia_gen.core.seeds import derive_seed, generator
from sia_gen.core.store.made_from import made_from
from sia_gen.core.store.mirror import local_copy
from sia_gen.core.store.objects import Location, locate
from sia_gen.core.store.shards import NORMAL, find_shards, read_record
from sia_gen.core.store.tars import TarBuilder
from sia_gen.generate import normals, pairs
from sia_gen.generate.content import (
    Made,
    Prepared,
    WorkerConfig,
    open_apart,
    stored_options,
    stored_text,
)
from sia_gen.generate.options import SynthesisOptions

KIND = "sia-gen pairs"
HEAVY = False

planned = pairs.planned
card = pairs.card


@dataclass(frozen=True, kw_only=True)
class _Workshop:
    """What pairs of one category are made with here, and the hashes of all of it."""

    category: Category
    context: Context
    method: Method
    facts: dict[str, str]


def _open(category: Category, name: str, made: Any, resolution: int, shards: str) -> _Workshop:
    """Returns a category's workshop; UserError where a folder or a shard is missing."""
    module = plugins.load(methods, name)
    tars: Sequence[Location] = ()
    sources = ""
    if shards and getattr(module, "SHARDS", False):
        tars = find_shards(locate(shards), category.key)
        sources = hash_options([str((read_record(tar) or {}).get("sha256")) for tar in tars])
    elif getattr(made, "textures", ""):
        textures = Path(made.textures)
        sources = normals.hash_files(module.find_textures(textures), textures)
    context = context_of(category, resolution, tuple(local_copy(tar) for tar in tars))
    return _Workshop(
        category=category,
        context=context,
        method=module.build(made, context),
        facts={"sources_sha256": sources, **normals.normal_image_facts(category)},
    )


def prepare(options: SynthesisOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data or output."""
    module = plugins.load(methods, options.method)
    made = from_values(module.Options, dict(options.settings), f"method {options.method}")
    dataset, out = open_apart(options.data, options.out, options.value_range)
    categories = dataset.select(options.categories)
    if options.shards and (origin := made_from(locate(options.shards))):
        categories = as_recorded(categories, origin.value_ranges)
    own = asdict(made)

    def described(category: Category) -> dict[str, Any]:
        # Built here once, so that a missing folder or shard is told before anything is written.
        workshop = _open(category, options.method, made, options.resolution, options.shards)
        return {
            "method": f"{options.method}-{module.VERSION}",
            "options": {**own, **({"textures": ""} if "textures" in own else {})},
            **workshop.facts,
        }

    given = {
        "shards": pairs.absolute(options.shards),
        "textures": pairs.absolute(str(own.get("textures", ""))),
    }
    return pairs.prepared(KIND, options, dataset, categories, out, described, given=given)


def stored(document: dict[str, Any], out: str, *, data: str | None, model: str | None) -> Prepared:
    """Returns the run of this run.json, checked again, with its data moved if given."""
    if model is not None:
        raise UserError(f"--model {model}: no model makes these pairs; leave it away")
    options = stored_options(SynthesisOptions, document, out=out)
    return prepare(replace(options, data=data or stored_text(document, "data", options.data)))


class PairMaker:
    """A method with a category's normal images, changed when a specification asks for others."""

    device = "cpu"

    def __init__(self, config: WorkerConfig) -> None:
        self._given = config.given
        self._dataset: Dataset | None = None
        self._asked: tuple[Any, ...] = ()
        self._workshop: _Workshop | None = None

    def prepare(self, spec: pairs.PairShard) -> None:
        """Opens the category of a specification; UserError where its files have changed."""
        known = str(spec.value_range)
        asked = (spec.key, spec.method, hash_options(spec.options), spec.resolution, known)
        if asked == self._asked:
            return
        if self._dataset is None:
            self._dataset = open_dataset(self._given["data"])
        name = spec.method.rpartition("-")[0]
        module = plugins.load(methods, name)
        if spec.method != f"{name}-{module.VERSION}":
            message = f"{spec.method} is planned, but this worker has {name}-{module.VERSION}"
            raise UserError(f"{message}: install the same version of sia-gen everywhere")
        places = {"textures": self._given["textures"]} if "textures" in spec.options else {}
        made = from_values(module.Options, {**spec.options, **places}, f"method {name}")
        category = normals.as_planned(spec, self._dataset, self._given["foreground"])
        workshop = _open(category, name, made, spec.resolution, self._given["shards"])
        normals.require_unchanged(spec, workshop.facts)
        self._workshop, self._asked = workshop, asked

    def make(self, spec: pairs.PairShard, on_images: Callable[[int], None]) -> Made:
        """Returns a shard of pairs."""
        builder = TarBuilder()
        normal = NORMAL in spec.extras
        for made, index in enumerate(spec.indices(), start=1):
            pair, metadata = self._pair(spec, index)
            pairs.add_pair(builder, spec.sample_key(index), pair, metadata, normal=normal)
            on_images(made)
        made_with = {"versions": versions("numpy", "scipy", "Pillow")}
        return Made(tar=builder.finish(), facts={}, made=made_with)

    def _pair(self, spec: pairs.PairShard, index: int) -> tuple[Pair, dict[str, Any]]:
        """Returns a pair, drawn again where the anomaly fell outside the region."""
        assert self._workshop is not None
        category, context = self._workshop.category, self._workshop.context
        for attempt in range(1, pairs.TRIES + 1):
            seed = derive_seed(spec.seed, "pair", spec.key, index, attempt)
            rng = generator(seed)
            normal = int(rng.integers(context.normals))
            pair = self._workshop.method.pair(
                context.image(normal), context.foreground(normal), rng
            )
            if pair.mask.any():
                break
        else:
            message = (
                f"{spec.key}: {pairs.TRIES} tries gave no anomaly inside the foreground"
                f" ({category.foreground}): look at it with `sia-gen preview --foregrounds`"
            )
            raise UserError(message)
        facts = pairs.provenance(
            spec, category, pair, index=index, seed=seed, attempt=attempt, normal=normal
        )
        return pair, facts


def load(config: WorkerConfig) -> PairMaker:
    """Returns what makes pairs in this process."""
    return PairMaker(config)
