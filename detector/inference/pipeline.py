"""Images read and decoded in threads while the network works, in batches and in their order."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.engine import Engine
from detector.maps import BATCH
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, read_size
from sia_gen.core.provenance import sha256_file

ROOM = 256 << 20  # bytes of decoded images that may wait; one image always may
MOST_WORKERS = 4


def workers() -> int:
    """Returns how many threads read, or write: at most four, at most one a core."""
    return max(1, min(MOST_WORKERS, os.cpu_count() or 1))


@dataclass(frozen=True, kw_only=True)
class Read:
    """One image file: what the network takes and its size (H, W), or why it cannot be read."""

    path: Path
    size: tuple[int, int] = (0, 0)
    prepared: Array8 | None = None
    original: Array8 | None = None
    error: UserError | None = None
    sha256: str = ""
    row: dict[str, Any] | None = None


Known = Callable[[Path, str], dict[str, Any] | None]


def read_one(path: Path, engine: Engine, keep: bool, known: Known | None) -> Read:
    """Returns a file decoded and prepared; with `keep` the whole image too.

    Where `known` has a row for its SHA-256 that is all that is read of it.
    """
    sha256 = ""
    try:
        if known is not None:
            sha256 = sha256_file(path)
            row = known(path, sha256)
            if row is not None:
                return Read(path=path, sha256=sha256, row=row)
        image = engine.read(path)
    except UserError as error:
        return Read(path=path, error=error)
    except OSError as error:
        return Read(path=path, error=UserError(f"{path}: {error.strerror or error}"))
    return Read(
        path=path,
        sha256=sha256,
        size=(image.shape[0], image.shape[1]),
        prepared=engine.prepare(image),
        original=image if keep else None,
    )


def _bytes(path: Path) -> int:
    with suppress(UserError, OSError):  # told when the file is read
        width, height = read_size(path)
        return width * height * 3
    return 0


def read_ahead(
    paths: Iterable[Path],
    engine: Engine,
    *,
    keep: bool = False,
    room: int = ROOM,
    known: Known | None = None,
) -> Iterator[list[Read]]:
    """Yields batches of files in their order; of tiled images one at a time.

    Later ones are decoded meanwhile, as many as `room` bytes hold.
    """
    size = 1 if engine.frame.tiled else BATCH
    most = 2 * size + workers()
    waiting: deque[tuple[Future[Read], int]] = deque()
    held = 0
    with ThreadPoolExecutor(max_workers=workers(), thread_name_prefix="read") as pool:
        batch: list[Read] = []
        for path in itertools.chain(paths, [None]):
            if path is not None:
                cost = _bytes(path)
                waiting.append((pool.submit(read_one, path, engine, keep, known), cost))
                held += cost
            while waiting and (path is None or held > room or len(waiting) >= most):
                future, cost = waiting.popleft()
                batch.append(future.result())
                held -= cost
                if len(batch) == size or (keep and held > room):
                    yield batch
                    batch = []
        if batch:
            yield batch
