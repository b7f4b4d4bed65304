"""The plan's estimates: disk, time and memory, each with what it was measured on."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sia_gen.core import memory
from sia_gen.core.data.dataset import Category
from sia_gen.core.pixels.encoding import find_encoding
from sia_gen.core.store.files import read_json
from sia_gen.core.store.objects import Location
from sia_gen.core.store.shards import read_record
from sia_gen.generate import levels
from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.contents.images import KIND, ImageMaker, PreparedImages
from sia_gen.generate.recipe import ImageShard, Recipe
from sia_gen.runs.progress import NAME as PROGRESS

RECORDS = 20  # finished shards that are looked at, at most
WARM_UP_BATCHES = 2  # the first pays for starting up, the second is timed


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one image weighs, how many a worker makes in a second, what a worker needs.

    `seconds_starting`: until a worker is ready, imports and the model's loading included.
    `most_at_once`: workers that do not wait for each other's cores, of those on this machine.
    """

    weight: levels.Weight
    rate: float | None  # images a second and worker
    rate_measured_on: str | None
    memory: dict[str, int] | None  # bytes: {"host", "gpu"}
    seconds_starting: float | None = None
    most_at_once: int | None = None  # None: not known


def from_records(run: Location, done: Sequence[ImageShard]) -> Estimate | None:
    """Returns what the finished shards of a run say; None where there are none."""
    found = [read_record(run / spec.file) for spec in done[-RECORDS:]]
    records = [record for record in found if record is not None and record.get("images")]
    if not records:
        return None
    images = sum(record["images"] for record in records)
    seconds = sum(
        record["made"]["seconds_generating"] + record["made"]["seconds_writing"]
        for record in records
    )
    peaks = [record["made"].get("peak_memory") for record in records]
    known = [peak for peak in peaks if peak]
    highest = {name: max(peak[name] for peak in known) for name in ("host", "gpu")}
    on = f"{len(records)} finished shards"
    return Estimate(
        weight=levels.Weight(
            bytes=sum(record["bytes"] for record in records) / images, measured_on=on
        ),
        rate=images / seconds if seconds > 0 else None,
        rate_measured_on=on if seconds > 0 else None,
        memory=highest if known else None,
        seconds_starting=_started_in(run),
    )


def _started_in(run: Location) -> float | None:
    """Returns how long the run's last start took until its first worker was ready, or None."""
    path = run / PROGRESS
    found = read_json(path).get("seconds_starting") if path.is_file() else None
    return None if found is None else float(found)


def from_normals(recipe: Recipe, categories: Sequence[Category]) -> Estimate:
    """Returns what can be known without loading the model: the size of an image."""
    encoding = find_encoding(recipe.format)
    weight = levels.weigh_normals(categories, recipe.resolution, encoding)
    return Estimate(weight=weight, rate=None, rate_measured_on=None, memory=None)


def from_warm_up(prepared: PreparedImages, device: str) -> Estimate:
    """Loads the model here, makes two batches, and returns what the second took."""
    recipe, spec = prepared.images, prepared.planned[0]
    began = time.perf_counter()
    maker = ImageMaker(
        WorkerConfig(kind=KIND, run=str(prepared.out), given=prepared.given, device=device)
    )
    maker.prepare(spec)
    generator = maker.generator
    assert generator is not None
    seeds = [spec.image_seed(index) for index in range(recipe.batch_size)]
    strengths = [spec.strength(seed) for seed in seeds]
    for _ in range(WARM_UP_BATCHES):
        start = time.perf_counter()
        images = generator.images(spec.category, seeds, strengths)
        seconds = time.perf_counter() - start
    starting = time.perf_counter() - began - WARM_UP_BATCHES * seconds
    cores = len(os.sched_getaffinity(0)) // prepared.threads
    on = f"a warm-up of {len(seeds)} images on {generator.device}"
    return Estimate(
        weight=levels.weigh(list(images), find_encoding(recipe.format), on),
        rate=len(seeds) / seconds,
        rate_measured_on=on,
        memory=memory.peak(),
        seconds_starting=max(0.0, starting),
        most_at_once=max(1, cores) if str(generator.device) == "cpu" else None,
    )


def _to_json(
    estimate: Estimate, *, images: int, workers: int, rate: float | None
) -> dict[str, Any]:
    """Returns the estimates for so many images; `rate` (images a second, all) beats a measured."""
    at_once = min(workers, estimate.most_at_once or workers)
    total = rate if rate is not None else estimate.rate and estimate.rate * at_once
    starting = estimate.seconds_starting or 0.0
    on = "--rate" if rate is not None else estimate.rate_measured_on
    return {
        "bytes_per_image": round(estimate.weight.bytes, 1),
        "bytes_measured_on": estimate.weight.measured_on,
        "bytes_to_do_estimated": round(images * estimate.weight.bytes),
        "workers": workers,
        "images_per_second": None if total is None else round(total, 4),
        "rate_measured_on": on,
        "workers_at_once": at_once,
        "seconds_starting": None if not images or not starting else round(starting, 1),
        "seconds_estimated": round(starting * (images > 0) + images / total, 1) if total else None,
        "memory_per_worker": estimate.memory,
    }


def describe_plan(
    prepared: PreparedImages,
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
    recipe = prepared.images
    missing = sum(spec.count for spec in prepared.missing)
    if warm_up:
        found = from_warm_up(prepared, device)
    else:
        gone = set(prepared.missing)
        done = [spec for spec in prepared.planned if spec not in gone]
        found = from_records(prepared.out, done) or from_normals(recipe, prepared.categories)
    return {
        "out": str(prepared.out),
        "recipe": prepared.recipe,
        "model": prepared.facts["model"],
        "resumes": prepared.exists,
        "images": recipe.images,
        "images_to_do": missing,
        "shards": len(prepared.planned),
        "shards_to_do": len(prepared.missing),
        "bytes_to_do_at_most": missing * (3 * recipe.resolution**2 + 3072),
        **_to_json(found, images=missing, workers=workers, rate=rate),
    }
