"""A run that is checked and not begun: options, data, model and output, and what would be made."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.encoding import find_encoding
from sia_gen.core.pixels.images import read_size
from sia_gen.core.store.objects import Location, is_url
from sia_gen.generate import estimate
from sia_gen.generate import model as source
from sia_gen.generate.options import RunOptions
from sia_gen.generate.plan import LEAST_BYTES, Recipe, ShardSpec, remaining, specs
from sia_gen.runs import folder as run_folder


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that was checked and may start; nothing is written yet."""

    out: Location
    recipe: Recipe
    categories: tuple[Category, ...]
    model: str  # located
    guidance: str  # an absolute folder, or empty
    facts: dict[str, Any]  # for run.json, beside the recipe
    planned: list[ShardSpec]
    missing: list[ShardSpec]
    exists: bool


def readable_size(size: int) -> str:
    """Returns a number of bytes as text, such as 12.3 MiB."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def _check_images(categories: tuple[Category, ...]) -> None:
    for category in categories:
        for path in category.train:
            read_size(path)


def _require_space(out: Location, recipe: Recipe, missing: list[ShardSpec]) -> None:
    """Refuses a run that cannot fit: its images at the best compression are more than is free."""
    if not isinstance(out, Path):
        return  # a bucket does not say how much it takes
    folder = out
    while not folder.exists():
        folder = folder.parent
    images = sum(spec.count for spec in missing)
    needed = int(images * 3 * recipe.resolution**2 * LEAST_BYTES[recipe.format])
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = (
            f"output {out}: {images} images need at least {readable_size(needed)}, but only"
            f" {readable_size(free)} are free in {folder}: free space, or give another --out"
        )
        raise UserError(message)


def prepare(options: RunOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data, model or output."""
    out = run_folder.check_output(options.out)
    dataset = open_dataset(options.data)
    categories = dataset.select(options.categories)
    for root in dataset.roots:
        run_folder.require_apart(out, root)
    _check_images(categories)
    model = source.locate(options.model)
    facts = source.describe(model)
    categories = source.as_trained(categories, facts)
    source.require_classes(options.model, facts, [category.name for category in categories])
    several = dataset.layout == "set"
    names = tuple(category.key if several else category.name for category in categories)
    source.require_health(options.model, facts, force=options.force)
    guidance = source.describe_guidance(options.guidance, options.model, facts)
    recipe = Recipe(
        dataset=dataset.name,
        categories=names,
        per_category=options.per_category,
        s_low=options.s_low,
        s_high=options.s_high,
        seed=options.seed,
        shard_size=options.shard_size,
        batch_size=options.batch_size,
        threads=options.threads,
        steps=options.steps,
        sampler=options.sampler,
        precision=options.precision,
        checkpoint_sha256=facts.checkpoint_sha256,
        resolution=facts.resolution,
        guidance_sha256=guidance.checkpoint_sha256 if guidance else "",
        guidance_scale=options.guidance_scale if guidance else 0.0,
        compile=options.compile,
        format=find_encoding(options.encode).format,
    )
    planned = specs(recipe)
    exists = run_folder.require_same(out, recipe)
    missing = remaining(planned, out) if exists else planned
    _require_space(out, recipe, missing)
    return Prepared(
        out=out,
        recipe=recipe,
        categories=categories,
        model=model,
        guidance=str(guidance.folder.resolve()) if guidance else "",
        facts={
            "options": asdict(options),
            "data": options.data if is_url(options.data) else dataset.origin,
            "model": {
                "name": options.model,
                "located": model,
                "checkpoint_sha256": facts.checkpoint_sha256,
                "health": facts.health,
                "forced": options.force,
            },
        },
        planned=planned,
        missing=missing,
        exists=exists,
    )


def describe_plan(
    prepared: Prepared,
    *,
    rate: float | None = None,
    workers: int = 1,
    warm_up: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Returns the plan's figures as a JSON object; `rate` in images a second gives the time.

    Sizes come from finished shards, else from a warm-up, else from the normal images; times and
    memory from the first two alone.
    """
    recipe = prepared.recipe
    missing = sum(spec.count for spec in prepared.missing)
    if warm_up:
        found = estimate.from_warm_up(
            recipe, prepared.planned[0], prepared.model, device, prepared.guidance
        )
    else:
        gone = set(prepared.missing)
        done = [spec for spec in prepared.planned if spec not in gone]
        found = estimate.from_records(prepared.out, done) or estimate.from_normals(
            recipe, prepared.categories
        )
    return {
        "out": str(prepared.out),
        "recipe": recipe.to_json(),
        "model": prepared.facts["model"],
        "resumes": prepared.exists,
        "images": recipe.images,
        "images_to_do": missing,
        "shards": len(prepared.planned),
        "shards_to_do": len(prepared.missing),
        "bytes_to_do_at_most": missing * (3 * recipe.resolution**2 + 3072),
        **estimate.to_json(found, images=missing, workers=workers, rate=rate),
    }
