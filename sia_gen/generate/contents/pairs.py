"""Training pairs of a synthesis method: image, mask, provenance. What `sia-gen synthesize` makes.

Pair k of a category is a function of (seed, category, k), the options and the files it is made
from. The tar holds <key>.json, <key>.png, <key>.mask.png and, if asked for, <key>.normal.png.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen import methods
from sia_gen.core import plugins
from sia_gen.core.context import Context, Method, context_of
from sia_gen.core.data.category import Category
from sia_gen.core.data.dataset import Dataset, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.options import from_values
from sia_gen.core.pixels.foreground import rule_for
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.pixels.ranges import checked
from sia_gen.core.provenance import hash_options, sha256_bytes, sha256_file, versions
from sia_gen.core.seeds import derive_seed, generator
from sia_gen.core.store.files import is_there
from sia_gen.core.store.mirror import local_copy
from sia_gen.core.store.objects import Location, is_url, locate
from sia_gen.core.store.shards import MASK, NORMAL, find_shards, read_record
from sia_gen.core.store.tars import TarBuilder
from sia_gen.generate.card import SHEET, Card, head, table, tail
from sia_gen.generate.content import (
    Made,
    Prepared,
    WorkerConfig,
    open_apart,
    stored_options,
    stored_text,
)
from sia_gen.generate.options import SynthesisOptions
from sia_gen.runs import folder
from sia_gen.runs.index import Finished
from sia_gen.runs.spec import Shard, cut, prefixes_of

KIND = "sia-gen pairs"
HEAVY = False

FORMAT = "pairs-png-1"
WITH_NORMAL = "-normal"  # at the format's end: the normal images are in the shards
TRIES = 100  # draws of normal image and anomaly until the mask is not empty


@dataclass(frozen=True, kw_only=True, slots=True)
class PairShard(Shard):
    """One shard of pairs: everything that decides their bytes."""

    method: str  # name and version, such as nsa-1
    options: dict[str, Any]
    seed: int
    resolution: int
    normal_images_sha256: str
    sources_sha256: str  # of textures or synthetic images that the method takes
    foreground: str
    foreground_sha256: str
    format: str
    value_range: list[float] | None = None  # that files of more than 8 bits were read with

    def to_json(self) -> dict[str, Any]:
        """Returns the specification as a JSON object; a range only where there is one."""
        found = Shard.to_json(self)
        if self.value_range is None:
            del found["value_range"]
        return found

    @property
    def side(self) -> int:
        """The side of the images, in pixels."""
        return self.resolution

    @property
    def extras(self) -> tuple[str, ...]:
        """A pair's mask, and its normal image where it was asked for."""
        return (MASK, NORMAL) if self.format.endswith(WITH_NORMAL) else (MASK,)

    def fault(self, sample: Mapping[str, Any], images: Mapping[str, Array8]) -> str:
        """Returns what is wrong with a pair's mask or its image outside the mask, or ""."""
        mask = images[MASK][..., 0]
        if sha256_bytes(mask.tobytes()) != sample["mask_sha256"]:
            return "has another mask than its record"
        normal = images.get(NORMAL)
        if normal is not None and not np.array_equal(images[""][mask == 0], normal[mask == 0]):
            return "differs from its normal image outside its mask"
        return ""


def add_pair(
    builder: TarBuilder, key: str, pair: Pair, metadata: dict[str, Any], *, normal: bool
) -> None:
    """Appends a pair to a tar, with the hashes of its pixels and of its mask."""
    mask = pair.mask.astype(np.uint8) * 255
    extras = {MASK: encode_png(mask), **({NORMAL: encode_png(pair.normal)} if normal else {})}
    pixels = sha256_bytes(np.ascontiguousarray(pair.image).tobytes())
    metadata = {**metadata, "mask_sha256": sha256_bytes(mask.tobytes())}
    builder.add_encoded(key, encode_png(pair.image), ".png", metadata, pixels, extras)


def hash_files(paths: Sequence[Path], root: Path) -> str:
    """Returns the hash of files' contents and of their names below a folder."""
    return hash_options([[os.path.relpath(p, root), sha256_file(p)] for p in paths])


def normal_image_facts(category: Category) -> dict[str, str]:
    """Returns hashes of the normal images and of the masks of their foreground, with its rule."""
    facts = {
        "normal_images_sha256": hash_files(category.train, category.root),
        "foreground": category.foreground,
        "foreground_sha256": "",
    }
    if category.foreground.startswith("masks "):
        masks = Path(category.foreground.removeprefix("masks "))
        files = [p for p in sorted(masks.iterdir()) if p.is_file()]
        facts |= {"foreground": "masks", "foreground_sha256": hash_files(files, masks)}
    return facts


def with_foreground(category: Category, given: str) -> Category:
    """Returns a category with the foreground that was asked for in place of its own."""
    rule = rule_for(given, category.name) if given else category.foreground
    return replace(category, foreground=rule)


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
        sources = hash_files(module.find_textures(textures), textures)
    context = context_of(category, resolution, tuple(local_copy(tar) for tar in tars))
    return _Workshop(
        category=category,
        context=context,
        method=module.build(made, context),
        facts={"sources_sha256": sources, **normal_image_facts(category)},
    )


def prepare(options: SynthesisOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data or output."""
    module = plugins.load(methods, options.method)
    made = from_values(module.Options, dict(options.settings), f"method {options.method}")
    dataset, out = open_apart(options.data, options.out, options.value_range)
    categories = dataset.select(options.categories)
    parts = cut(options.per_category, options.shard_size, len(categories))
    own = asdict(made)
    facts: dict[str, Any] = {}
    prefixes = prefixes_of([(c.dataset, c.name) for c in categories])
    for category in categories:
        category = with_foreground(category, options.foreground)
        # Built here once, so that a missing folder or shard is told before anything is written.
        workshop = _open(category, options.method, made, options.resolution, options.shards)
        facts[category.key] = {
            "method": f"{options.method}-{module.VERSION}",
            "options": {**own, **({"textures": ""} if "textures" in own else {})},
            "dataset": category.dataset,
            "category": category.name,
            "seed": options.seed,
            "resolution": options.resolution,
            **workshop.facts,
            "format": FORMAT + (WITH_NORMAL if options.normal else ""),
        }
        if prefix := prefixes[category.dataset, category.name]:
            facts[category.key]["prefix"] = prefix
        if known := category.value_range:
            facts[category.key]["value_range"] = list(known)
    data = options.data if is_url(options.data) else dataset.origin
    prepared = Prepared(
        kind=KIND,
        out=out,
        recipe={
            "per_category": options.per_category,
            "shard_size": options.shard_size,
            "categories": facts,
        },
        facts={"options": asdict(options), "data": data},
        given={
            "data": data,
            "foreground": _absolute(options.foreground),
            "shards": _absolute(options.shards),
            "textures": _absolute(str(own.get("textures", ""))),
        },
        planned=[PairShard(**part, **shared) for shared in facts.values() for part in parts],
    )
    prepared.require_room()
    return prepared


def _absolute(place: str) -> str:
    """Returns a folder's absolute path, for workers start elsewhere; anything else as it is."""
    return str(Path(place).resolve()) if is_there(place) else place


def planned(document: dict[str, Any]) -> list[PairShard]:
    """Returns all shards that a folder of pairs is to hold."""
    recipe = folder.recipe_of(document)
    try:
        parts = cut(int(recipe["per_category"]), int(recipe["shard_size"]))
        found = recipe["categories"].values()
        return [PairShard(**part, **shared) for shared in found for part in parts]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder.NAME}: its recipe is not readable: {error!r}") from error


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

    def prepare(self, spec: PairShard) -> None:
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
        category = with_foreground(self._dataset.one(spec.key), self._given["foreground"])
        category = replace(category, given_range=checked(spec.value_range))
        workshop = _open(category, name, made, spec.resolution, self._given["shards"])
        changed = [n for n, value in workshop.facts.items() if getattr(spec, n) != value]
        if changed:
            message = f"{spec.key}: {', '.join(changed)} differ here from what the run was planned"
            raise UserError(f"{message} with: the files were changed, or are others on this node")
        self._workshop, self._asked = workshop, asked

    def make(self, spec: PairShard, on_images: Callable[[int], None]) -> Made:
        """Returns a shard of pairs."""
        builder = TarBuilder()
        normal = NORMAL in spec.extras
        for made, index in enumerate(spec.indices(), start=1):
            pair, metadata = self._pair(spec, index)
            add_pair(builder, spec.sample_key(index), pair, metadata, normal=normal)
            on_images(made)
        made_with = {"versions": versions("numpy", "scipy", "Pillow")}
        return Made(tar=builder.finish(), facts={}, made=made_with)

    def _pair(self, spec: PairShard, index: int) -> tuple[Pair, dict[str, Any]]:
        """Returns a pair, drawn again where the anomaly fell outside the region."""
        assert self._workshop is not None
        category, context = self._workshop.category, self._workshop.context
        for attempt in range(1, TRIES + 1):
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
                f"{spec.key}: {TRIES} tries gave no anomaly inside the foreground"
                f" ({category.foreground}): look at it with `sia-gen preview --foregrounds`"
            )
            raise UserError(message)
        path = category.train[normal]
        return pair, {
            "dataset": spec.dataset,
            "category": spec.category,
            "index": index,
            "seed": seed,
            "attempt": attempt,
            "method": spec.method,
            "normal": Path(os.path.relpath(path, category.root)).as_posix(),
            "mask_share": round(float(pair.mask.mean()), 6),
        }


def load(config: WorkerConfig) -> PairMaker:
    """Returns what makes pairs in this process."""
    return PairMaker(config)


def card(document: dict[str, Any], finished: Finished) -> Card:
    """Returns what the dataset card says of pairs."""
    shared = list(folder.recipe_of(document)["categories"].values())
    dataset = "+".join(dict.fromkeys(str(facts["dataset"]) for facts in shared))
    method, side = shared[0]["method"], shared[0]["resolution"]
    pairs = finished.images.total()
    here = f" **Incomplete:** {len(finished.shards)} of {finished.planned} shards are here."
    text = f"""{head(f"Anomalous pairs for {dataset}", finished)}
{pairs} pairs of image and mask for {len(shared)} categories, {side} x {side} pixels, made by
`sia-gen synthesize` (method {method}) from normal images only.{"" if finished.complete else here}

{SHEET if finished.first else ""}
{table(finished)}
- `<key>.png` is the image, `<key>.mask.png` its mask (0 or 255). Outside its mask an image equals
  the normal image that its metadata names, bit for bit.
- These images inherit the licence of the images that they were made from.
{tail(finished).lstrip()}"""
    description = (
        f"{pairs} pairs of anomalous image and mask for {dataset}, made from normal images only by"
        f" the method {method}."
    )
    return Card(name=f"{dataset}-{method}", text=text, description=description)
