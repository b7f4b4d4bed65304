"""Pairs of SDAS in place: anomalies grown inside normal images by a diffusion model, as shards.

Pair k of a category is a function of (seed, category, k), the options, the model and the normal
images: it is grown in normal image k of a fixed order, so that each of them has its pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sia_gen.core.context import Context, context_of
from sia_gen.core.data.category import Category
from sia_gen.core.data.dataset import Dataset, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, from_values, like
from sia_gen.core.pixels.changes import pair_of, require_range
from sia_gen.core.pixels.images import Mask
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.pixels.perlin import mask as perlin
from sia_gen.core.provenance import versions
from sia_gen.core.seeds import derive_seed, generator
from sia_gen.core.store.shards import NORMAL
from sia_gen.core.store.tars import TarBuilder
from sia_gen.generate import model as models
from sia_gen.generate import normals, pairs
from sia_gen.generate.card import Card
from sia_gen.generate.content import Made, Prepared, WorkerConfig, open_apart
from sia_gen.generate.content import stored_options as read_options
from sia_gen.generate.options import RunOptions, SynthesisOptions
from sia_gen.generate.pairs import PairShard
from sia_gen.methods.sdas_inplace import VERSION, normal_hash
from sia_gen.runs import folder
from sia_gen.runs.index import Finished

KIND = "sia-gen pairs in place"
HEAVY = True

METHOD = f"sdas_inplace-{VERSION}"
GROWN = 10  # times that a pair is grown again until something has changed inside its mask


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """The model, and how far it may go: strength and depth, uniform in their ranges."""

    model: str = like(RunOptions, "model")
    s_range: tuple[float, float] = (0.1, 1.0)
    depth_range: tuple[float, float] = (0.4, 0.75)
    batch_size: int = like(RunOptions, "batch_size")
    threads: int = like(RunOptions, "threads")
    steps: int = like(RunOptions, "steps")
    sampler: str = like(RunOptions, "sampler")
    precision: str = like(RunOptions, "precision")
    force: bool = like(RunOptions, "force")

    def __post_init__(self) -> None:
        """Refuses ranges that no pair could be drawn from, by their names."""
        super().__post_init__()
        require_range("s_range", self.s_range, 0, float(np.finfo(np.float32).max))
        require_range("depth_range", self.depth_range, 0, 1)
        if self.depth_range[0] <= 0:
            raise UserError(f"depth_range {self.depth_range[0]:g}: a depth is above 0, at most 1")


def prepare(options: SynthesisOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data, model or output."""
    if options.shards:
        raise UserError(f"--shards {options.shards}: sdas-inplace takes a --model, not its images")
    own = from_values(Options, dict(options.settings), "method sdas-inplace")
    dataset, out = open_apart(options.data, options.out, options.value_range)
    located = models.locate(own.model)
    facts = models.describe(located)
    categories = models.as_trained(dataset.select(options.categories), facts)
    models.require_classes(own.model, facts, [category.name for category in categories])
    models.require_health(own.model, facts, force=own.force)
    if options.resolution != facts.resolution:
        raise UserError(
            f"--resolution {options.resolution}: model {own.model} makes images of"
            f" {facts.resolution} pixels: give --resolution {facts.resolution}"
        )
    chosen = {
        **asdict(own),
        "model": "",  # known by its hash; where it lies is of no meaning elsewhere
        "checkpoint_sha256": facts.checkpoint_sha256,
        "sampler": models.sampler_of(facts, own.sampler),
        "precision": _precision(own.precision),
    }

    def described(category: Category) -> dict[str, Any]:
        _require_channels(own.model, facts, category, options.resolution)
        return {
            "method": METHOD,
            "options": chosen,
            "sources_sha256": facts.checkpoint_sha256,
            **normals.normal_image_facts(category),
        }

    return pairs.prepared(
        KIND,
        options,
        dataset,
        categories,
        out,
        described,
        given={"model": located},
        facts={"model": {"located": located}},
        threads=own.threads,
    )


def _precision(asked: str) -> str:
    """Returns the precision that decides the bits: `auto` is settled where the run is planned."""
    if asked != "auto":
        return asked
    from sia_gen.compute.device import choose_device, choose_precision

    return choose_precision(asked, choose_device("auto"))


def _require_channels(name: str, facts: Any, category: Category, side: int) -> None:
    """Raises UserError for a gray model on images in colour."""
    if getattr(facts, "channels", 3) != 1:
        return
    image = context_of(category, side).image(0)
    if (image != image[..., :1]).any():
        raise UserError(
            f"model {name} knows gray images only, {category.key} is in colour: train one on it"
        )


planned = pairs.planned
card_of_pairs = pairs.card


def stored(document: dict[str, Any], out: str, *, data: str | None, model: str | None) -> Prepared:
    """Returns the run of this run.json, checked again, with data and model moved if given."""
    options: SynthesisOptions = read_options(SynthesisOptions, document, out=out)
    located = model or document.get("model", {}).get("located")
    settings = {**dict(options.settings), **({"model": located} if located else {})}
    return prepare(
        replace(
            options,
            data=data or document.get("data", options.data),
            settings=tuple(settings.items()),
        )
    )


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """One try at a pair: everything that its seed decides."""

    index: int
    attempt: int
    seed: int
    normal: int
    mask: Mask
    strength: float
    depth: float


class InPlaceMaker:
    """A model with a category's normal images, changed when a specification asks for others."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._dataset: Dataset | None = None
        self._loaded: tuple[Any, ...] = ()
        self._opened: tuple[Any, ...] = ()
        self._category: Category | None = None
        self._context: Context | None = None
        self._generator: models.Generator | None = None

    @property
    def device(self) -> object:
        """Where the model computes."""
        return None if self._generator is None else self._generator.device

    def prepare(self, spec: PairShard) -> None:
        """Loads the model and the category of a specification; UserError where they changed."""
        given, own = self._config.given, spec.options
        names = ("checkpoint_sha256", "steps", "sampler", "precision", "threads")
        wanted = tuple(own[name] for name in names)
        if wanted != self._loaded:
            self._generator = models.load(
                given["model"],
                device=self._config.device,
                **{name: own[name] for name in names[1:]},
            )
            if self._generator.checkpoint_sha256 != own["checkpoint_sha256"]:
                raise UserError(f"model {given['model']} was changed since the run was planned")
            self._loaded = wanted
        opened = (
            *(spec.key, spec.resolution, str(spec.value_range)),
            *(spec.normal_images_sha256, spec.foreground_sha256),
        )
        if opened == self._opened:
            return
        if self._dataset is None:
            self._dataset = open_dataset(given["data"])
        category = normals.as_planned(spec, self._dataset, given["foreground"])
        normals.require_unchanged(spec, normals.normal_image_facts(category))
        self._category, self._context = category, context_of(category, spec.resolution)
        self._opened = opened

    def make(self, spec: PairShard, on_images: Callable[[int], None]) -> Made:
        """Returns a shard of pairs, made in batches of one depth."""
        found: dict[int, tuple[_Draw, Pair]] = {}
        waiting = [self._draw(spec, index, 1) for index in spec.indices()]
        while waiting:
            again: list[_Draw] = []
            for batch in _batches(waiting, spec):
                for draw, pair in zip(batch, self._grow(spec, batch), strict=True):
                    if pair.mask.any():
                        found[draw.index] = draw, pair
                    else:
                        again.append(draw)
                on_images(len(found))
            if again and again[0].attempt >= GROWN:
                raise UserError(
                    f"{spec.key}: {GROWN} tries changed nothing inside the mask of pair"
                    f" {again[0].index}: give a larger --depth-range or --s-range"
                )
            waiting = [self._draw(spec, draw.index, draw.attempt + 1) for draw in again]
        builder, with_normal = TarBuilder(), NORMAL in spec.extras
        assert self._category is not None
        for index in spec.indices():
            draw, pair = found[index]
            metadata = pairs.provenance(
                spec,
                self._category,
                pair,
                index=index,
                seed=draw.seed,
                attempt=draw.attempt,
                normal=draw.normal,
                normal_sha256=normal_hash(pair.normal),
                strength=draw.strength,
                depth=draw.depth,
                checkpoint_sha256=spec.options["checkpoint_sha256"],
            )
            pairs.add_pair(builder, spec.sample_key(index), pair, metadata, normal=with_normal)
        made_with = {
            "model": self._config.given["model"],
            "device": str(self.device),
            "versions": versions("torch", "diffusers", "numpy", "Pillow"),
        }
        return Made(tar=builder.finish(), facts={}, made=made_with)

    def _draw(self, spec: PairShard, index: int, attempt: int) -> _Draw:
        """Returns what is to be grown; the mask lies inside the foreground and is not empty."""
        assert self._context is not None and self._category is not None
        order = generator(spec.seed, "normals", spec.key).permutation(self._context.normals)
        normal = int(order[index % len(order)])
        region = self._context.foreground(normal)
        seed = derive_seed(spec.seed, "in place", spec.key, index, attempt)
        rng = generator(seed)
        for _ in range(pairs.TRIES):
            mask = perlin(spec.resolution, rng) & region
            if mask.any():
                break
        else:
            raise UserError(
                f"{spec.key}: {pairs.TRIES} masks lay outside the foreground"
                f" ({self._category.foreground}): look at it with `sia-gen preview --foregrounds`"
            )
        return _Draw(
            index=index,
            attempt=attempt,
            seed=seed,
            normal=normal,
            mask=mask,
            strength=round(float(rng.uniform(*spec.options["s_range"])), 6),
            depth=round(float(rng.uniform(*spec.options["depth_range"])), 6),
        )

    def _grow(self, spec: PairShard, batch: list[_Draw]) -> list[Pair]:
        assert self._context is not None and self._generator is not None
        normals = np.stack([self._context.image(draw.normal) for draw in batch])
        images = self._generator.in_place(
            spec.category,
            [draw.seed for draw in batch],
            [draw.strength for draw in batch],
            normals,
            np.stack([draw.mask for draw in batch]),
            batch[0].depth,
        )
        return [
            pair_of(normal, image, draw.mask)
            for draw, normal, image in zip(batch, normals, images, strict=True)
        ]


def _batches(draws: list[_Draw], spec: PairShard) -> list[list[_Draw]]:
    """Returns the draws in batches that run the same number of the chain's steps."""
    steps, size = spec.options["steps"], spec.options["batch_size"]
    groups: dict[int, list[_Draw]] = {}
    for draw in draws:
        groups.setdefault(max(1, round(draw.depth * steps)), []).append(draw)
    return [
        group[i : i + size]
        for _, group in sorted(groups.items())
        for i in range(0, len(group), size)
    ]


def load(config: WorkerConfig) -> InPlaceMaker:
    """Returns what grows pairs in this process."""
    return InPlaceMaker(config)


def card(document: dict[str, Any], finished: Finished) -> Card:
    """Returns what the dataset card says: that of pairs, with the ranges."""
    found = card_of_pairs(document, finished)
    shared = next(iter(folder.recipe_of(document)["categories"].values()))["options"]
    low, high = shared["s_range"]
    shallow, deep = shared["depth_range"]
    said = (
        f"\n- Grown in place by model `{shared['checkpoint_sha256']}`:"
        f" strength {low:g} to {high:g}, depth {shallow:g} to {deep:g},"
        f" {shared['steps']} steps, {shared['sampler']}.\n"
    )
    head, mark, tail = found.text.partition("\n- `<key>.png`")
    return replace(found, text=head + said + mark.lstrip("\n") + tail)
