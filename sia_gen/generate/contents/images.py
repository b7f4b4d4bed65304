"""Images of a diffusion model, each from its own seed and strength: what `sia-gen run` makes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.encoding import find_encoding
from sia_gen.core.pixels.images import Array8, read_size
from sia_gen.core.provenance import versions
from sia_gen.core.store.objects import is_url
from sia_gen.core.store.tars import Synthetic, Tar, TarBuilder
from sia_gen.generate import levels, model
from sia_gen.generate.card import SHEET, Card, head, histogram, table, tail
from sia_gen.generate.content import (
    Made,
    Prepared,
    WorkerConfig,
    open_apart,
    stored_options,
    stored_text,
)
from sia_gen.generate.options import RunOptions
from sia_gen.generate.recipe import ImageShard, Recipe, specs
from sia_gen.runs.index import Finished
from sia_gen.runs.shard_health import HealthMeter, Levels

KIND = "sia-gen run"
HEAVY = True

# What an image takes at the very least, as a share of its raw pixels.
LEAST_BYTES = {"png-1": 0.25, "webp-1": 0.2, "realnet-1": 0.02}
AHEAD = 2  # batches that may wait for the encoder; more would only cost memory


@dataclass(frozen=True, kw_only=True)
class PreparedImages(Prepared):
    """A checked run of images: what estimates and the first start know of it beside the shards."""

    images: Recipe
    planned: Sequence[ImageShard]
    categories: tuple[Category, ...]
    judged: bool  # whether the images' brightness is compared with the normal images'

    def measured(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Returns how bright each category's normal images are; what run.json says of it stays."""
        if isinstance(stored.get("normals"), dict):
            return {"normals": stored["normals"]}
        chosen = self.categories if self.judged else ()
        side = self.images.resolution
        return {"normals": {c.key: asdict(levels.levels(c, side)) for c in chosen}}


def prepare(options: RunOptions) -> PreparedImages:
    """Returns a checked run; UserError names what is wrong with options, data, model or output."""
    dataset, out = open_apart(options.data, options.out)
    categories = dataset.select(options.categories)
    for category in categories:
        for path in category.train:
            read_size(path)
    located = model.locate(options.model)
    facts = model.describe(located)
    categories = model.as_trained(categories, facts)
    model.require_classes(options.model, facts, [category.name for category in categories])
    several = dataset.layout == "set"
    names = tuple(category.key if several else category.name for category in categories)
    model.require_health(options.model, facts, force=options.force)
    guidance = model.describe_guidance(options.guidance, options.model, facts)
    asked = {f.name: getattr(options, f.name) for f in fields(Recipe) if hasattr(options, f.name)}
    found = {
        "dataset": dataset.name,
        "categories": names,
        "checkpoint_sha256": facts.checkpoint_sha256,
        "sampler": model.sampler_of(facts, options.sampler),
        "resolution": facts.resolution,
        "guidance_sha256": guidance.checkpoint_sha256 if guidance else "",
        "guidance_scale": options.guidance_scale if guidance else 0.0,
        "format": find_encoding(options.encode).format,
    }
    recipe = Recipe(**{**asked, **found})
    ranges = {c.key: c.given_range for c in categories if c.given_range}
    prepared = PreparedImages(
        kind=KIND,
        out=out,
        recipe=recipe.to_json(),
        facts={
            "options": asdict(options),
            "data": options.data if is_url(options.data) else dataset.origin,
            "model": {
                "name": options.model,
                "located": located,
                "checkpoint_sha256": facts.checkpoint_sha256,
                "health": facts.health,
                "forced": options.force,
            },
            **({"value_ranges": ranges} if ranges else {}),
        },
        given={
            "model": located,
            "guidance": str(guidance.folder.resolve()) if guidance else "",
        },
        planned=specs(recipe),
        threads=recipe.threads,
        least_bytes=3 * recipe.resolution**2 * LEAST_BYTES[recipe.format],
        images=recipe,
        categories=categories,
        # A model that is used in spite of its health is not judged by its brightness either.
        judged=not options.force and model.resembles_normals(located),
    )
    prepared.require_room()
    return prepared


def planned(document: dict[str, Any]) -> list[ImageShard]:
    """Returns all shards that a run is to hold."""
    return specs(Recipe.from_json(document.get("recipe", {})))


def stored(
    document: dict[str, Any], out: str, *, data: str | None, model: str | None
) -> PreparedImages:
    """Returns the run of this run.json, checked again, with data and model moved if given."""
    options: RunOptions = stored_options(RunOptions, document, out=out)
    found = document.get("model", {})
    found = found if isinstance(found, dict) else {}
    places = {
        "data": data or stored_text(document, "data", options.data),
        "model": model or stored_text(found, "located", options.model),
    }
    return prepare(stored_options(RunOptions, document, out=out, **places))


class ImageMaker:
    """A model, loaded as the specifications ask for it."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._loaded: tuple[Any, ...] = ()
        self.generator: model.Generator | None = None

    @property
    def device(self) -> object:
        """Where the model computes."""
        return None if self.generator is None else self.generator.device

    def prepare(self, spec: ImageShard) -> None:
        """Loads the model as the specification says, once for all that say the same."""
        wanted = (
            *(spec.checkpoint_sha256, spec.steps, spec.sampler, spec.precision, spec.threads),
            *(spec.guidance_sha256, spec.guidance_scale, spec.compile, spec.truncate),
        )
        if wanted == self._loaded:
            return
        given = self._config.given
        guidance = given["guidance"] if spec.guidance_sha256 else ""
        self.generator = generator = model.load(
            given["model"],
            device=self._config.device,
            precision=spec.precision,
            steps=spec.steps,
            sampler=spec.sampler,
            threads=spec.threads,
            truncate=spec.truncate,
            guidance=guidance,
            guidance_scale=spec.guidance_scale,
            compiled=spec.compile,
        )
        if generator.checkpoint_sha256 != spec.checkpoint_sha256:
            raise UserError(f"model {given['model']} was changed since the run was planned")
        if generator.guidance_sha256 != spec.guidance_sha256:
            raise UserError(f"guidance {guidance} was changed since the run was planned")
        self._loaded = wanted

    def make(self, spec: ImageShard, on_images: Callable[[int], None]) -> Made:
        """Returns a shard of images; UnhealthyShardError where too many are broken."""
        assert self.generator is not None
        tar, meter = self._generate(spec, on_images)
        level = self._config.given.get("normals", {}).get(spec.key)
        normal = None if level is None else Levels(**level)
        health = meter.result(normal)
        health.require(normal)
        generator = self.generator
        return Made(
            tar=tar,
            facts={
                "health": health.to_json(),
                "model": {
                    "checkpoint_sha256": generator.checkpoint_sha256,
                    "health_passed": generator.health.get("passed") is True,
                },
            },
            made={
                "model": self._config.given["model"],
                "device": str(generator.device),
                "precision": generator.precision,
                "versions": versions("torch", "diffusers", "numpy", "Pillow"),
            },
        )

    def _generate(
        self, spec: ImageShard, on_images: Callable[[int], None]
    ) -> tuple[Tar, HealthMeter]:
        """Returns a shard's tar and its health. Encoding and hashing run in a thread beside the
        model: a GPU does not wait for zlib."""
        builder, meter = TarBuilder(find_encoding(spec.format)), HealthMeter()

        def store(samples: list[Synthetic]) -> None:
            for sample in samples:
                meter.add(sample.image, builder.add(sample))

        made_so_far = 0
        waiting: deque[Future[None]] = deque()
        # One thread, so that samples enter the tar in their order.
        with ThreadPoolExecutor(1, "encoder") as encoder:
            for batch in spec.batches():
                waiting.append(encoder.submit(store, self._batch(spec, batch)))
                while len(waiting) > AHEAD:
                    waiting.popleft().result()
                made_so_far += len(batch)
                on_images(made_so_far)
            for future in waiting:
                future.result()
        return builder.finish(), meter

    def _batch(self, spec: ImageShard, batch: range) -> list[Synthetic]:
        assert self.generator is not None
        seeds = [spec.image_seed(index) for index in batch]
        strengths = [spec.strength(seed) for seed in seeds]
        made = self.generator.images(spec.category, seeds, strengths)
        _check_batch(made, (len(batch), spec.resolution, spec.resolution, 3))
        return [
            Synthetic(
                key=spec.sample_key(index),
                image=image,
                metadata={
                    "dataset": spec.dataset,
                    "category": spec.category,
                    "index": index,
                    "seed": seed,
                    "strength": strength,
                    "checkpoint_sha256": spec.checkpoint_sha256,
                    "sampler": spec.sampler,
                    "steps": spec.steps,
                    "encoding": spec.format,
                },
            )
            for index, seed, strength, image in zip(batch, seeds, strengths, made, strict=True)
        ]


def _check_batch(made: Array8, expected: tuple[int, ...]) -> None:
    if made.shape != expected or made.dtype != np.uint8:
        message = f"the model returned {made.dtype} {made.shape}, expected uint8 {expected}"
        raise RuntimeError(message)


def load(config: WorkerConfig) -> ImageMaker:
    """Returns what makes images in this process."""
    return ImageMaker(config)


def card(document: dict[str, Any], finished: Finished) -> Card:
    """Returns what the dataset card says of images of a model."""
    recipe = Recipe.from_json(document.get("recipe", {}))
    encoding = find_encoding(recipe.format)
    images = finished.images.total()
    here, planned = len(finished.shards), finished.planned
    state = "" if finished.complete else f" **Incomplete:** {here} of {planned} shards are here."
    loss = "lossless" if encoding.lossless else "lossy; its artefacts are part of the images"
    text = f"""{head(f"Synthetic anomalies for {recipe.dataset}", finished)}
{images} images of {len(recipe.categories)} categories, {recipe.resolution} x {recipe.resolution}
pixels, made by `sia-gen` from normal images only (strength-controllable diffusion anomaly
synthesis, RealNet, CVPR 2024).{state}

{SHEET if finished.first else ""}
{table(finished)}
Strength {recipe.s_low:g} to {recipe.s_high:g}, uniform, drawn for each image from its own seed:

![Histogram of strengths](card/strengths.svg)

- Sampler {recipe.sampler}, {recipe.steps} steps, run seed {recipe.seed}, precision
  {recipe.precision}; model `{recipe.checkpoint_sha256}`.
- Encoding {recipe.format} ({loss}).
- Whole images, not masks: blend them into normal images through a mask (RealNet, Eq. 3).
- These images inherit the licence of the normal images that the model was trained on.
{tail(finished).lstrip()}"""
    return Card(
        name=f"sia-{recipe.dataset}",
        text=text,
        description=(
            f"{images} synthetic anomalies of strength {recipe.s_low:g} to {recipe.s_high:g} for"
            f" {recipe.dataset}, made by diffusion from normal images only."
        ),
        pictures={"strengths.svg": histogram(finished, recipe.s_low, recipe.s_high).encode()},
    )
