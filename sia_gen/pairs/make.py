"""`sia-gen synthesize`: pairs (image, mask, provenance) of one method, as shards.

Pair k of a category is a function of (seed, category, k), the options and the files it is made
from: any number of workers, any order and any restart give the same bytes. A shard is done when
its record matches its specification; the same call again makes what is missing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sia_gen import methods
from sia_gen.core.context import Context, Method, context_of
from sia_gen.core.errors import IncompleteError, LockedError, UserError
from sia_gen.core.plugins import load
from sia_gen.core.provenance import versions
from sia_gen.core.seeds import derive_seed, generator
from sia_gen.core.store.files import TEMPORARY_PREFIX, write_json
from sia_gen.core.store.pair_shards import PairSample, write_pairs
from sia_gen.core.store.shards import is_done, write_record
from sia_gen.pairs.plan import NAME, SynthesisOptions, Task, has_results, prepare
from sia_gen.runs.signals import StopFlag

TRIES = 100  # draws of normal image and anomaly until the mask is not empty


class StoppedSynthesisError(Exception):
    """A signal ended the run; what was published stays."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


_built: dict[tuple[Any, ...], tuple[Context, Method]] = {}


def _tools(task: Task) -> tuple[Context, Method]:
    """Returns a category's context and method; a process keeps the last ones."""
    key = (task.category.key, task.method, task.options, task.spec["resolution"], task.shards)
    if key not in _built:
        _built.clear()
        context = context_of(task.category, int(task.spec["resolution"]), task.shards)
        _built[key] = (context, load(methods, task.method).build(task.options, context))
    return _built[key]


def make_pair(task: Task, index: int) -> PairSample:
    """Returns pair `index` of a category; drawn again where the anomaly fell outside the region."""
    context, method = _tools(task)
    spec = task.spec
    for attempt in range(1, TRIES + 1):
        seed = derive_seed(spec["seed"], "pair", task.category.key, index, attempt)
        rng = generator(seed)
        normal = int(rng.integers(context.normals))
        pair = method.pair(context.image(normal), context.foreground(normal), rng)
        if pair.mask.any():
            break
    else:
        message = (
            f"{task.category.key}: {TRIES} tries gave no anomaly inside the foreground"
            f" ({task.category.foreground}): look at it with `sia-gen preview --foregrounds`"
        )
        raise UserError(message)
    path = task.category.train[normal]
    metadata = {
        "dataset": task.category.dataset,
        "category": task.category.name,
        "index": index,
        "seed": seed,
        "attempt": attempt,
        "method": spec["method"],
        "normal": Path(os.path.relpath(path, task.category.root)).as_posix(),
        "mask_share": round(float(pair.mask.mean()), 6),
    }
    return PairSample(key=task.key(index), pair=pair, metadata=metadata)


def make_shard(task: Task, stopped: Callable[[], bool] = lambda: False) -> int | None:
    """Makes and publishes one shard, its record last; returns its pairs, None where stopped."""
    if is_done(task.tar, task.spec_hash):
        return int(task.spec["count"])
    began = time.perf_counter()
    first, count = int(task.spec["first"]), int(task.spec["count"])
    samples = []
    for index in range(first, first + count):
        if stopped():
            return None
        samples.append(make_pair(task, index))
    facts = write_pairs(task.tar, samples, normal=task.normal)
    record = {
        "category": task.category.key,
        "shard": task.spec["shard"],
        "first": first,
        "spec": task.spec,
        "spec_hash": task.spec_hash,
        **facts,
        "made": {
            "seconds": round(time.perf_counter() - began, 3),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "versions": versions("numpy", "scipy", "Pillow"),
        },
    }
    write_record(task.tar, record)
    return count


def _start_worker(parent: int) -> None:
    """Leaves signals to the parent, and ends this process when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _run_here(tasks: list[Task], stop: StopFlag, on_shard: Callable[[int], None]) -> None:
    for task in tasks:
        count = make_shard(task, stop.is_set)
        if count is None:
            return
        on_shard(count)


def _run_pool(
    tasks: list[Task], workers: int, stop: StopFlag, on_shard: Callable[[int], None]
) -> None:
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(),),
    ) as pool:
        waiting: set[Future[int | None]] = {pool.submit(make_shard, task) for task in tasks}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    on_shard(future.result() or 0)
                if stop.is_set():
                    break
        except BrokenProcessPool as error:
            message = "a worker process died (killed, or out of memory): run again to resume"
            raise IncompleteError(message) from error
        finally:
            if waiting:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list((pool._processes or {}).values()):
                    process.terminate()


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Holds the folder for one process; the system frees dead holds."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"{out} is in use by another `sia-gen synthesize`: wait for it"
            raise LockedError(message) from error
        yield


def in_use(out: Path) -> bool:
    """Returns whether a process makes pairs in a folder now."""
    try:
        with (out / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def synthesize(
    options: SynthesisOptions,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Makes or resumes a run of pairs and returns its closing figures as a JSON object."""
    prepared = prepare(options)
    if not 1 <= workers <= 1024:
        raise UserError(f"--workers {workers}: expected 1 to 1024")
    stop = StopFlag()
    for category in {task.category.key: task.category for task in prepared.tasks}.values():
        if note := category.range_note():
            say(note)
    with held(prepared.out):
        if not has_results(prepared.out):
            write_json(prepared.out / NAME, prepared.document)
        for stray in (prepared.out / "shards").rglob(f"{TEMPORARY_PREFIX}*"):
            stray.unlink(missing_ok=True)
        missing = [t for t in prepared.tasks if not is_done(t.tar, t.spec_hash)]
        total = sum(int(t.spec["count"]) for t in prepared.tasks)
        made = 0
        began = time.monotonic()

        def on_shard(count: int) -> None:
            nonlocal made
            made += count
            rate = made / max(time.monotonic() - began, 1e-9)
            say(f"{made} pairs made, {rate:.1f} a second")

        stop.install()
        try:
            if workers > 1 and len(missing) > 1:
                _run_pool(missing, min(workers, len(missing)), stop, on_shard)
            else:
                _run_here(missing, stop, on_shard)
        finally:
            stop.restore()
    finished = sum(is_done(t.tar, t.spec_hash) for t in prepared.tasks)
    if stop.signal is not None and finished < len(prepared.tasks):
        message = (
            f"stopped by a signal: {finished} of {len(prepared.tasks)} shards are done; run the"
            " same command again to resume"
        )
        raise StoppedSynthesisError(stop.signal, message)
    return {
        "out": str(prepared.out),
        "method": options.method,
        "pairs": total,
        "pairs_made_now": made,
        "shards": len(prepared.tasks),
        "shards_made_now": len(missing),
    }
