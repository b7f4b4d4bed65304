"""One specification -> one shard: the unit of work. It knows no executor.

The bytes of the tar depend on the specification and the model alone. Tar and record are published
atomically, the record last, so that a process killed anywhere leaves a whole shard or none.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen import health
from sia_gen.core.errors import UserError
from sia_gen.core.images import Array8, encode_png
from sia_gen.core.provenance import versions
from sia_gen.core.shards import PNG_LEVEL, Synthetic, is_done, read_record, write_record, write_tar
from sia_gen.plan import ShardSpec
from sia_gen.source import Generator


class StoppedShardError(Exception):
    """The run is stopping; the shard is dropped whole."""


class OrphanedShardError(Exception):
    """The run folder vanished, or another run took it over; nothing more is written to it."""


class OutputError(UserError):
    """The shard could not be written: disk full, folder read-only."""


def _check_batch(made: Array8, spec: ShardSpec, count: int) -> None:
    expected = (count, spec.resolution, spec.resolution, 3)
    if made.shape != expected or made.dtype != np.uint8:
        message = f"the model returned {made.dtype} {made.shape}, expected uint8 {expected}"
        raise RuntimeError(message)


def generate(
    spec: ShardSpec, generator: Generator, on_batch: Callable[[int], None]
) -> list[Synthetic]:
    """Returns a shard's images with their metadata; calls on_batch with the images made so far.

    A batch is encoded while the next one is sampled.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode") as encoder:
        try:
            return _generate(spec, generator, on_batch, encoder)
        except BaseException:
            encoder.shutdown(wait=False, cancel_futures=True)
            raise


def _generate(
    spec: ShardSpec,
    generator: Generator,
    on_batch: Callable[[int], None],
    encoder: ThreadPoolExecutor,
) -> list[Synthetic]:
    samples: list[Synthetic] = []
    encoded: list[Future[bytes]] = []
    for batch in spec.batches():
        seeds = [spec.image_seed(index) for index in batch]
        strengths = [spec.strength(seed) for seed in seeds]
        made = generator.images(spec.category, seeds, strengths)
        _check_batch(made, spec, len(batch))
        for index, seed, strength, image in zip(batch, seeds, strengths, made, strict=True):
            metadata = {
                "dataset": spec.dataset,
                "category": spec.category,
                "index": index,
                "seed": seed,
                "strength": strength,
                "checkpoint_sha256": spec.checkpoint_sha256,
                "sampler": spec.sampler,
                "steps": spec.steps,
            }
            samples.append(Synthetic(key=spec.sample_key(index), image=image, metadata=metadata))
            encoded.append(encoder.submit(encode_png, image, PNG_LEVEL))
        on_batch(len(samples))
    return [replace(s, png=png.result()) for s, png in zip(samples, encoded, strict=True)]


def make_shard(
    spec: ShardSpec,
    generator: Generator,
    run: Path,
    *,
    model: str,
    attempt: int = 1,
    on_batch: Callable[[int], None] = lambda _: None,
    owned: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Makes and publishes one shard below a run folder and returns its record.

    A shard that an earlier attempt published before it was lost is not made again. `owned` is asked
    just before writing, for the worker of a killed run lives on for seconds beside its successor.
    """
    tar = run / spec.file
    if is_done(tar, spec.spec_hash) and (record := read_record(tar)) is not None:
        return record
    start = time.perf_counter()
    samples = generate(spec, generator, on_batch)
    generated = time.perf_counter()
    figures = health.measure([sample.image for sample in samples])
    figures.require()
    if not owned():
        raise OrphanedShardError(f"{run} was removed, or taken over by another run")
    try:
        facts = write_tar(tar, samples)
        record = {
            "category": spec.key,
            "shard": spec.shard,
            "first": spec.first,
            "spec": asdict(spec),
            "spec_hash": spec.spec_hash,
            **facts,
            "health": figures.to_json(),
            "model": {
                "checkpoint_sha256": generator.checkpoint_sha256,
                "health_passed": generator.health.get("passed") is True,
            },
            # Everything that may differ between two makings of the same shard is in here.
            "made": {
                "model": model,
                "attempts": attempt,
                "seconds_generating": round(generated - start, 3),
                "seconds_writing": round(time.perf_counter() - generated, 3),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": socket.gethostname(),
                "device": str(generator.device),
                "precision": generator.precision,
                "versions": versions("torch", "diffusers", "numpy", "Pillow"),
            },
        }
        write_record(tar, record)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise OutputError(str(error)) from error
        raise
    return record
