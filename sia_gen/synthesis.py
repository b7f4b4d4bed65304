"""`sia-gen synthesize`: pairs (image, mask, provenance) of one method, as shards.

Pair k of a category is a function of (seed, category, k), the options and the files it is made
from: any number of workers, any order and any restart give the same bytes. A shard is done when
its record matches its specification; the same call again makes what is missing.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sia_gen import methods, run_folder
from sia_gen.core.category import Category
from sia_gen.core.context import Context, Method, context_of
from sia_gen.core.dataset import open_dataset
from sia_gen.core.errors import IncompleteError, LockedError, UserError
from sia_gen.core.files import TEMPORARY_PREFIX, read_json, write_json
from sia_gen.core.foreground import rule_for
from sia_gen.core.pair_shards import PairSample, write_pairs
from sia_gen.core.plugins import load
from sia_gen.core.provenance import hash_options, sha256_file, versions
from sia_gen.core.seeds import derive_seed, generator
from sia_gen.core.settings import make_options
from sia_gen.core.shards import find_shards, is_done, read_record, write_record
from sia_gen.signals import StopFlag

NAME = "synthesis.json"
KIND = "sia-gen pairs"
SCHEMA = 1
TRIES = 100  # draws of normal image and anomaly until the mask is not empty


class StoppedSynthesisError(Exception):
    """A signal ended the run; what was published stays."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """What pairs are made, from what, into which folder."""

    method: str
    out: str
    data: str = "textures"
    categories: str = "all"
    per_category: int = 1000
    resolution: int = 256
    seed: int = 0
    shard_size: int = 500
    foreground: str = ""
    shards: str = ""
    normal: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that no run could use, by their names."""
        for name, low, high in (
            ("per_category", 1, 100_000_000),
            ("resolution", 16, 4096),
            ("shard_size", 1, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} {value}: expected {low} to {high}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: expected 0 <= seed < 2**63")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One shard and everything that a process needs to make it."""

    spec: dict[str, Any]
    category: Category
    method: str
    options: Any
    shards: tuple[Path, ...]
    out: Path
    normal: bool

    @property
    def name(self) -> str:
        """The shard's name, category-00000."""
        return f"{self.category.name}-{self.spec['shard']:05}"

    @property
    def tar(self) -> Path:
        """The shard's file."""
        return self.out / "shards" / self.category.dataset / self.category.name / f"{self.name}.tar"

    @property
    def spec_hash(self) -> str:
        """The hash that a finished shard's record must carry."""
        return hash_options(self.spec)

    def key(self, index: int) -> str:
        """Returns a pair's key in the tar: no dots, ASCII and short, as tar readers need."""
        return f"{re.sub(r'[^A-Za-z0-9_-]', '_', self.category.name)[:60]}-{index:08}"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that was checked and may start; nothing is written yet."""

    out: Path
    document: dict[str, Any]
    tasks: list[Task]


def _hash_files(paths: list[Path], root: Path) -> str:
    return hash_options([[os.path.relpath(p, root), sha256_file(p)] for p in paths])


def _foreground_facts(category: Category) -> dict[str, str]:
    """Returns the rule without its path, and what a mask folder holds."""
    if not category.foreground.startswith("masks "):
        return {"foreground": category.foreground, "foreground_sha256": ""}
    folder = Path(category.foreground.removeprefix("masks "))
    files = [p for p in sorted(folder.iterdir()) if p.is_file()]
    return {"foreground": "masks", "foreground_sha256": _hash_files(files, folder)}


def _sources(options: SynthesisOptions, made: Any, category: Category) -> tuple[list[Path], str]:
    """Returns the shards that a method takes images from, and the hash of all that it takes."""
    if options.method == "sdas" and options.shards:
        tars = find_shards(Path(options.shards), category.key)
        digests = [str((read_record(tar) or {}).get("sha256")) for tar in tars]
        return tars, hash_options(digests)
    if options.method == "dtd" and made.textures:
        from sia_gen.methods.dtd import find_textures

        folder = Path(made.textures)
        return [], _hash_files(list(find_textures(folder)), folder)
    return [], ""


def prepare(options: SynthesisOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data or output."""
    module = load(methods, options.method)
    made = make_options(module.Options, dict(options.settings), f"method {options.method}")
    out = _checked_output(options.out)
    dataset = open_dataset(options.data)
    for root in dataset.roots:
        run_folder.require_apart(out, root)
    tasks: list[Task] = []
    facts: dict[str, Any] = {}
    for category in dataset.select(options.categories):
        if options.foreground:
            rule = rule_for(options.foreground, category.name)
            category = replace(category, foreground=rule)
        tars, sources = _sources(options, made, category)
        shared = {
            "method": f"{options.method}-{module.VERSION}",
            "options": {**asdict(made), **({"textures": ""} if options.method == "dtd" else {})},
            "dataset": category.dataset,
            "category": category.name,
            "seed": options.seed,
            "resolution": options.resolution,
            "normal_images_sha256": _hash_files(list(category.train), category.root),
            "sources_sha256": sources,
            **_foreground_facts(category),
            "format": "pairs-png-1" + ("-normal" if options.normal else ""),
        }
        # Built here once, so that a missing folder or shard is told before anything is written.
        module.build(made, context_of(category, options.resolution, tuple(tars)))
        facts[category.key] = shared
        for shard, first in enumerate(range(0, options.per_category, options.shard_size)):
            count = min(options.shard_size, options.per_category - first)
            tasks.append(
                Task(
                    spec={**shared, "shard": shard, "first": first, "count": count},
                    category=category,
                    method=options.method,
                    options=made,
                    shards=tuple(tars),
                    out=out,
                    normal=options.normal,
                )
            )
    recipe = {
        "per_category": options.per_category,
        "shard_size": options.shard_size,
        "categories": facts,
    }
    document = {"schema": SCHEMA, "kind": KIND, "recipe": recipe, "options": asdict(options)}
    _require_same(out, recipe)
    return Prepared(out=out, document=document, tasks=tasks)


def _checked_output(given: str) -> Path:
    out = Path(given).resolve()
    if out.exists() and not out.is_dir():
        raise UserError(f"output {given} is a file: give a folder")
    others = [p.name for p in out.iterdir() if p.name[0] != "."] if out.is_dir() else []
    if others and NAME not in others:
        message = f"output {given} holds other files ({others[0]}) and no {NAME}: give a new folder"
        raise UserError(message)
    return out


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= _flat(inner, f"{name}.{key}" if name else str(key))
        return found
    return {name: list(value) if isinstance(value, tuple) else value}


def _require_same(out: Path, recipe: dict[str, Any]) -> None:
    """Raises UserError where the folder belongs to a run that makes other pairs."""
    if not (out / NAME).is_file():
        return
    content = read_json(out / NAME)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{out / NAME} is not of `sia-gen synthesize`: give another --out")
    old, new = _flat(content.get("recipe", {})), _flat(recipe)
    differing = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if differing:
        shown = "; ".join(f"{k}: {old.get(k)} there, {new.get(k)} asked" for k in differing[:5])
        message = (
            f"{out} belongs to a run that makes other pairs ({shown}): give the same options to go"
            " on with it, or another --out"
        )
        raise UserError(message)


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
def _held(out: Path) -> Iterator[None]:
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
    with _held(prepared.out):
        if not (prepared.out / NAME).is_file():
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
