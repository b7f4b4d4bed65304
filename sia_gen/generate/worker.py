"""A worker: a model loaded once, and shards made with it one after another.

It answers in plain data and lets no exception out: exception classes do not always survive the way
between processes. It must be importable wherever a Ray worker starts.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.store.objects import locate
from sia_gen.generate import model as source
from sia_gen.generate.job import OrphanedShardError, OutputError, StoppedShardError, make_shard
from sia_gen.generate.plan import ShardSpec
from sia_gen.runs.lock import holds
from sia_gen.runs.shard_health import Levels

# What the answer to a failure is:
# "user" and "output" end the run, "orphan" and "stopped" drop the shard, "error" counts an attempt.
FATAL = frozenset({"user", "output", "orphan"})


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker is told once; plain values only."""

    model: str  # located: an absolute folder, or an address
    run: str  # an absolute folder, or an address
    checkpoint_sha256: str
    device: str
    precision: str
    steps: int
    sampler: str
    threads: int
    token: str | None = None  # of the lock of the run folder; None for none
    encoding: str = "png"
    normals: dict[str, Levels] = field(default_factory=dict)  # brightness by category
    guidance: str = ""  # an absolute folder
    guidance_sha256: str = ""
    guidance_scale: float = 0.0
    compile: bool = False


def _failure(kind: str, error: BaseException) -> dict[str, Any]:
    advice = ""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        advice = (
            " Out of memory: start a new run with a smaller --batch-size (it is part of the result"
            " and never changed silently), or give each worker more memory."
        )
    return {
        "status": "failed",
        "kind": kind,
        "error": f"{type(error).__name__}: {error}{advice}"
        if kind == "error"
        else f"{error}{advice}",
        "traceback": "".join(traceback.format_exception(error)),
    }


class ShardWorker:
    """Makes shards; `progress` may be asked from another thread meanwhile."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._generator: source.Generator | None = None
        self._lock = threading.Lock()
        self._progress: tuple[str, int] = ("", 0)

    def load(self) -> dict[str, Any]:
        """Loads the model and returns {"status": "ready"}, or what went wrong."""
        config = self.config
        start = time.perf_counter()
        try:
            generator = source.load(
                config.model,
                device=config.device,
                precision=config.precision,
                steps=config.steps,
                sampler=config.sampler,
                threads=config.threads,
                truncate=config.encoding == "realnet",
                guidance=config.guidance,
                guidance_scale=config.guidance_scale,
                compiled=config.compile,
            )
            if generator.checkpoint_sha256 != config.checkpoint_sha256:
                raise UserError(f"model {config.model} was changed since the run was planned")
            if generator.guidance_sha256 != config.guidance_sha256:
                raise UserError(f"guidance {config.guidance} was changed since the run was planned")
        except UserError as error:
            return _failure("user", error)
        except Exception as error:
            return _failure("error", error)
        self._generator = generator
        seconds = round(time.perf_counter() - start, 3)
        return {"status": "ready", "seconds": seconds, "device": str(generator.device)}

    def progress(self) -> tuple[str, int]:
        """Returns the name of the shard in work and the images made of it so far."""
        with self._lock:
            return self._progress

    def run(
        self, spec: ShardSpec, attempt: int, on_batch: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Makes one shard and returns {"status": "done", ...}, or what went wrong."""

        def note(images: int) -> None:
            with self._lock:
                self._progress = (spec.name, images)
            if on_batch is not None:
                on_batch(images)

        if self._generator is None:
            raise RuntimeError("run() before load()")
        with self._lock:
            self._progress = (spec.name, 0)
        start = time.perf_counter()
        run = locate(self.config.run)
        token = self.config.token
        try:
            record = make_shard(
                spec,
                self._generator,
                run,
                model=self.config.model,
                attempt=attempt,
                normal=self.config.normals.get(spec.key),
                on_batch=note,
                owned=lambda: token is None or holds(run, token),
            )
        except StoppedShardError as error:
            return _failure("stopped", error)
        except OrphanedShardError as error:
            return _failure("orphan", error)
        except OutputError as error:
            return _failure("output", error)
        except Exception as error:  # a UserError here is the model's answer to this shard
            return _failure("error", error)
        seconds = round(time.perf_counter() - start, 3)
        return {"status": "done", "images": record["images"], "seconds": seconds}
