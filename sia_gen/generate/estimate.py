"""The plan's estimates: disk, time and memory, each with what it was measured on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sia_gen.core import memory
from sia_gen.core.data.dataset import Category
from sia_gen.core.pixels.encoding import find_encoding
from sia_gen.core.store.objects import Location
from sia_gen.core.store.shards import read_record
from sia_gen.generate import levels as normals
from sia_gen.generate import model as source
from sia_gen.generate.plan import Recipe, ShardSpec

RECORDS = 20  # finished shards that are looked at, at most
WARM_UP_BATCHES = 2  # the first pays for starting up, the second is timed


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one image weighs, how many a worker makes in a second, what a worker needs."""

    weight: normals.Weight
    rate: float | None  # images a second and worker
    rate_measured_on: str | None
    memory: dict[str, int] | None  # bytes: {"host", "gpu"}


def from_records(run: Location, done: Sequence[ShardSpec]) -> Estimate | None:
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
        weight=normals.Weight(
            bytes=sum(record["bytes"] for record in records) / images, measured_on=on
        ),
        rate=images / seconds if seconds > 0 else None,
        rate_measured_on=on if seconds > 0 else None,
        memory=highest if known else None,
    )


def from_normals(recipe: Recipe, categories: Sequence[Category]) -> Estimate:
    """Returns what can be known without loading the model: the size of an image."""
    encoding = find_encoding(recipe.format)
    weight = normals.weigh_normals(categories, recipe.resolution, encoding)
    return Estimate(weight=weight, rate=None, rate_measured_on=None, memory=None)


def from_warm_up(
    recipe: Recipe, spec: ShardSpec, model: str, device: str, guidance: str = ""
) -> Estimate:
    """Loads the model here, makes two batches, and returns what the second took."""
    encoding = find_encoding(recipe.format)
    generator = source.load(
        model,
        device=device,
        precision=recipe.precision,
        steps=recipe.steps,
        sampler=recipe.sampler,
        threads=recipe.threads,
        truncate=encoding.name == "realnet",
        guidance=guidance,
        guidance_scale=recipe.guidance_scale,
        compiled=recipe.compile,
    )
    seeds = [spec.image_seed(index) for index in range(recipe.batch_size)]
    strengths = [spec.strength(seed) for seed in seeds]
    for _ in range(WARM_UP_BATCHES):
        start = time.perf_counter()
        images = generator.images(spec.category, seeds, strengths)
        seconds = time.perf_counter() - start
    on = f"a warm-up of {len(seeds)} images on {generator.device}"
    return Estimate(
        weight=normals.weigh(list(images), encoding, on),
        rate=len(seeds) / seconds,
        rate_measured_on=on,
        memory=memory.peak(),
    )


def to_json(estimate: Estimate, *, images: int, workers: int, rate: float | None) -> dict[str, Any]:
    """Returns the estimates for so many images; `rate` (images a second, all) beats a measured."""
    total = rate if rate is not None else estimate.rate and estimate.rate * workers
    on = "--rate" if rate is not None else estimate.rate_measured_on
    return {
        "bytes_per_image": round(estimate.weight.bytes, 1),
        "bytes_measured_on": estimate.weight.measured_on,
        "bytes_to_do_estimated": round(images * estimate.weight.bytes),
        "workers": workers,
        "images_per_second": None if total is None else round(total, 4),
        "rate_measured_on": on,
        "seconds_estimated": round(images / total, 1) if total else None,
        "memory_per_worker": estimate.memory,
    }
