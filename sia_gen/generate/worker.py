"""A worker: what fills shards, loaded once, and shards made with it one after another.

It answers in plain data and lets no exception out: exception classes do not always survive the way
between processes. It must be importable wherever a Ray worker starts.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.store.objects import locate
from sia_gen.generate import contents
from sia_gen.generate.content import Maker, WorkerConfig
from sia_gen.generate.job import OrphanedShardError, OutputError, StoppedShardError, make_shard
from sia_gen.runs.lock import holds
from sia_gen.runs.spec import Shard

# What the answer to a failure is:
# "user" and "output" end the run, "orphan" and "stopped" drop the shard, "error" counts an attempt.
FATAL = frozenset({"user", "output", "orphan"})


class UnpreparedShardError(Exception):
    """What a specification asks for is not here; no shard of the run can be made."""


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
    """Makes shards as their specifications say; `progress` may be asked from another thread."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._maker: Maker | None = None
        self._lock = threading.Lock()
        self._progress: tuple[str, int] = ("", 0)

    def load(self, spec: Shard) -> dict[str, Any]:
        """Loads what shards like this one need; returns {"status": "ready"}, or what is wrong."""
        start = time.perf_counter()
        try:
            maker = contents.find(self.config.kind).load(self.config)
            maker.prepare(spec)
        except UserError as error:
            return _failure("user", error)
        except Exception as error:
            return _failure("error", error)
        self._maker = maker
        seconds = round(time.perf_counter() - start, 3)
        return {"status": "ready", "seconds": seconds, "device": str(maker.device)}

    def progress(self) -> tuple[str, int]:
        """Returns the name of the shard in work and the samples made of it so far."""
        with self._lock:
            return self._progress

    def run(
        self, spec: Shard, attempt: int, on_images: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Makes one shard and returns {"status": "done", ...}, or what went wrong."""

        def note(images: int) -> None:
            with self._lock:
                self._progress = (spec.name, images)
            if on_images is not None:
                on_images(images)

        if self._maker is None:
            raise RuntimeError("run() before load()")
        with self._lock:
            self._progress = (spec.name, 0)
        start = time.perf_counter()
        run = locate(self.config.run)
        token = self.config.token
        try:
            self._prepare(spec)
            record = make_shard(
                spec,
                self._maker,
                run,
                attempt=attempt,
                on_images=note,
                owned=lambda: token is None or holds(run, token),
            )
        except StoppedShardError as error:
            return _failure("stopped", error)
        except OrphanedShardError as error:
            return _failure("orphan", error)
        except OutputError as error:
            return _failure("output", error)
        except UnpreparedShardError as error:
            return _failure("user", error)
        except Exception as error:  # a UserError here is the maker's answer to this shard
            return _failure("error", error)
        seconds = round(time.perf_counter() - start, 3)
        twins = record.get("health", {}).get("duplicates", 0)
        remark = f"{twins} images occur more than once" if twins else ""
        return {
            "status": "done",
            "images": record["images"],
            "seconds": seconds,
            "remark": remark,
        }

    def _prepare(self, spec: Shard) -> None:
        assert self._maker is not None
        try:
            self._maker.prepare(spec)
        except UserError as error:
            raise UnpreparedShardError(str(error)) from error
