"""One specification -> one shard: the unit of work. It knows no executor and no kind of content.

Tar and record are published atomically, the record last, so that a process killed anywhere leaves
a whole shard or none.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sia_gen.core import memory
from sia_gen.core.errors import UserError
from sia_gen.core.store.objects import Location
from sia_gen.core.store.shards import is_done, publish, read_record
from sia_gen.generate.content import Made, Maker
from sia_gen.runs.spec import Shard


class StoppedShardError(Exception):
    """The run is stopping; the shard is dropped whole."""


class OrphanedShardError(Exception):
    """The run folder vanished, or another run took it over; nothing more is written to it."""


class OutputError(UserError):
    """The shard could not be written: disk full, folder read-only, store out of reach."""


def _record(
    spec: Shard, shard: Made, attempt: int, start: float, generated: float
) -> dict[str, Any]:
    return {
        "category": spec.key,
        "shard": spec.shard,
        "first": spec.first,
        "spec": spec.to_json(),
        "spec_hash": spec.spec_hash,
        **shard.tar.facts,
        **shard.facts,
        # Everything that may differ between two makings of the same shard.
        "made": {
            "attempts": attempt,
            "seconds_generating": round(generated - start, 3),
            "seconds_writing": round(time.perf_counter() - generated, 3),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "peak_memory": memory.peak(),
            **shard.made,
        },
    }


def make_shard(
    spec: Shard,
    maker: Maker,
    run: Location,
    *,
    attempt: int = 1,
    on_images: Callable[[int], None] = lambda _: None,
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
    shard = maker.make(spec, on_images)
    generated = time.perf_counter()
    if not owned():
        raise OrphanedShardError(f"{run} was removed, or taken over by another run")
    try:
        return publish(
            path,
            shard.tar,
            spec.spec_hash,
            lambda: _record(spec, shard, attempt, start, generated),
        )
    except UserError as error:
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            raise OutputError(str(error)) from error
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
