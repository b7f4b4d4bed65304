"""One specification -> one shard: the unit of work. It knows no executor.

The bytes of the tar depend on the specification and the model alone. Tar and record are published
atomically, the record last, so that a process killed anywhere leaves a whole shard or none.
Encoding and hashing run in a thread beside the model: a GPU does not wait for zlib.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sia_gen.core import memory
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.encoding import find_encoding
from sia_gen.core.pixels.images import Array8
from sia_gen.core.provenance import versions
from sia_gen.core.store.objects import Location
from sia_gen.core.store.shards import is_done, publish, read_record
from sia_gen.core.store.tars import Synthetic, Tar, TarBuilder
from sia_gen.generate.model import Generator
from sia_gen.generate.plan import ShardSpec
from sia_gen.runs.shard_health import Health, HealthMeter, Levels

AHEAD = 2  # batches that may wait for the encoder; more would only cost memory


class StoppedShardError(Exception):
    """The run is stopping; the shard is dropped whole."""


class OrphanedShardError(Exception):
    """The run folder vanished, or another run took it over; nothing more is written to it."""


class OutputError(UserError):
    """The shard could not be written: disk full, folder read-only, store out of reach."""


def _check_batch(made: Array8, spec: ShardSpec, count: int) -> None:
    expected = (count, spec.resolution, spec.resolution, 3)
    if made.shape != expected or made.dtype != np.uint8:
        message = f"the model returned {made.dtype} {made.shape}, expected uint8 {expected}"
        raise RuntimeError(message)


def _metadata(spec: ShardSpec, index: int, seed: int, strength: float) -> dict[str, Any]:
    return {
        "dataset": spec.dataset,
        "category": spec.category,
        "index": index,
        "seed": seed,
        "strength": strength,
        "checkpoint_sha256": spec.checkpoint_sha256,
        "sampler": spec.sampler,
        "steps": spec.steps,
        "encoding": spec.format,
    }


def generate(
    spec: ShardSpec, generator: Generator, on_batch: Callable[[int], None]
) -> tuple[Tar, HealthMeter]:
    """Returns a shard's tar and its health; calls on_batch with the images made so far."""
    builder, meter = TarBuilder(find_encoding(spec.format)), HealthMeter()

    def store(samples: list[Synthetic]) -> None:
        for sample in samples:
            meter.add(sample.image, builder.add(sample))

    made_so_far = 0
    waiting: deque[Future[None]] = deque()
    # One thread, so that samples enter the tar in their order.
    with ThreadPoolExecutor(1, "encoder") as encoder:
        for batch in spec.batches():
            seeds = [spec.image_seed(index) for index in batch]
            strengths = [spec.strength(seed) for seed in seeds]
            made = generator.images(spec.category, seeds, strengths)
            _check_batch(made, spec, len(batch))
            samples = [
                Synthetic(
                    key=spec.sample_key(index),
                    image=image,
                    metadata=_metadata(spec, index, seed, strength),
                )
                for index, seed, strength, image in zip(batch, seeds, strengths, made, strict=True)
            ]
            waiting.append(encoder.submit(store, samples))
            while len(waiting) > AHEAD:
                waiting.popleft().result()
            made_so_far += len(batch)
            on_batch(made_so_far)
        for future in waiting:
            future.result()
    return builder.finish(), meter


def _made(
    generator: Generator, model: str, attempt: int, start: float, generated: float
) -> dict[str, Any]:
    """Returns everything that may differ between two makings of the same shard."""
    return {
        "model": model,
        "attempts": attempt,
        "seconds_generating": round(generated - start, 3),
        "seconds_writing": round(time.perf_counter() - generated, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "device": str(generator.device),
        "precision": generator.precision,
        "peak_memory": memory.peak(),
        "versions": versions("torch", "diffusers", "numpy", "Pillow"),
    }


def _facts(spec: ShardSpec, generator: Generator, tar: Tar, health: Health) -> dict[str, Any]:
    return {
        "category": spec.key,
        "shard": spec.shard,
        "first": spec.first,
        "spec": asdict(spec),
        "spec_hash": spec.spec_hash,
        **tar.facts,
        "health": health.to_json(),
        "model": {
            "checkpoint_sha256": generator.checkpoint_sha256,
            "health_passed": generator.health.get("passed") is True,
        },
    }


def make_shard(
    spec: ShardSpec,
    generator: Generator,
    run: Location,
    *,
    model: str,
    attempt: int = 1,
    normal: Levels | None = None,
    on_batch: Callable[[int], None] = lambda _: None,
    owned: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Makes and publishes one shard below a run folder and returns its record.

    A shard that an earlier attempt published before it was lost is not made again. `owned` is asked
    just before writing, for the worker of a killed run lives on for seconds beside its successor.
    """
    path = run / spec.file
    if is_done(path, spec.spec_hash) and (record := read_record(path)) is not None:
        return record
    start = time.perf_counter()
    tar, meter = generate(spec, generator, on_batch)
    generated = time.perf_counter()
    health = meter.result(normal)
    health.require(normal)
    if not owned():
        raise OrphanedShardError(f"{run} was removed, or taken over by another run")

    def record_of() -> dict[str, Any]:
        made = _made(generator, model, attempt, start, generated)
        return {**_facts(spec, generator, tar, health), "made": made}

    try:
        return publish(path, tar, spec.spec_hash, record_of)
    except UserError as error:
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            raise OutputError(str(error)) from error
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
