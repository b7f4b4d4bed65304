"""A generation run from its options to its index files; the same call again resumes it.

Everything that can be refused is refused before anything is written and before torch or Ray start.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sia_gen import card, claims, estimate, index, lock, normals, run_folder, source
from sia_gen.core.dataset import Category, Dataset, open_dataset
from sia_gen.core.encoding import find_encoding
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.images import read_size
from sia_gen.core.mirror import local_folder
from sia_gen.core.objects import Location, ObjectPath, is_url, locate, require_conditional_put
from sia_gen.core.provenance import versions
from sia_gen.executors.contract import Event, Executor, Summary
from sia_gen.health import Levels
from sia_gen.options import ExecutionOptions, RunOptions
from sia_gen.plan import LEAST_BYTES, Recipe, ShardSpec, remaining, specs
from sia_gen.progress import Progress
from sia_gen.signals import StopFlag
from sia_gen.worker import WorkerConfig


class StoppedRunError(Exception):
    """A signal ended the run; what was published stays."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that was checked and may start; nothing is written yet."""

    out: Location
    recipe: Recipe
    categories: tuple[Category, ...]
    model: str  # located
    facts: dict[str, Any]  # for run.json, beside the recipe
    planned: list[ShardSpec]
    missing: list[ShardSpec]
    exists: bool


def readable_size(size: int) -> str:
    """Returns a number of bytes as text, such as 12.3 MiB."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def _check_images(categories: tuple[Category, ...]) -> None:
    for category in categories:
        for path in category.train:
            read_size(path)


def _require_space(out: Location, recipe: Recipe, missing: list[ShardSpec]) -> None:
    """Refuses a run that cannot fit: its images at the best compression are more than is free."""
    if not isinstance(out, Path):
        return  # a bucket does not say how much it takes
    folder = out
    while not folder.exists():
        folder = folder.parent
    images = sum(spec.count for spec in missing)
    needed = int(images * 3 * recipe.resolution**2 * LEAST_BYTES[recipe.format])
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = (
            f"output {out}: {images} images need at least {readable_size(needed)}, but only"
            f" {readable_size(free)} are free in {folder}: free space, or give another --out"
        )
        raise UserError(message)


def _open(data: str) -> Dataset:
    """Returns the dataset of a name, a folder, or an address, of which a copy is kept here."""
    return open_dataset(local_folder(locate(data)) if is_url(data) else data)


def prepare(options: RunOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data, model or output."""
    out = run_folder.check_output(options.out)
    dataset = _open(options.data)
    categories = dataset.select(options.categories)
    run_folder.require_apart(out, dataset.root)
    _check_images(categories)
    model = source.locate(options.model)
    facts = source.describe(model)
    names = tuple(category.name for category in categories)
    source.require_classes(options.model, facts, names)
    source.require_health(options.model, facts, force=options.force)
    recipe = Recipe(
        dataset=dataset.name,
        categories=names,
        per_category=options.per_category,
        s_low=options.s_low,
        s_high=options.s_high,
        seed=options.seed,
        shard_size=options.shard_size,
        batch_size=options.batch_size,
        threads=options.threads,
        steps=options.steps,
        sampler=options.sampler,
        precision=options.precision,
        checkpoint_sha256=facts.checkpoint_sha256,
        resolution=facts.resolution,
        format=find_encoding(options.encode).format,
    )
    planned = specs(recipe)
    exists = run_folder.require_same(out, recipe)
    missing = remaining(planned, out) if exists else planned
    _require_space(out, recipe, missing)
    return Prepared(
        out=out,
        recipe=recipe,
        categories=categories,
        model=model,
        facts={
            "options": asdict(options),
            "data": options.data if is_url(options.data) else str(dataset.root),
            "model": {
                "name": options.model,
                "located": model,
                "checkpoint_sha256": facts.checkpoint_sha256,
                "health": facts.health,
                "forced": options.force,
            },
        },
        planned=planned,
        missing=missing,
        exists=exists,
    )


def describe_plan(
    prepared: Prepared,
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
    recipe = prepared.recipe
    missing = sum(spec.count for spec in prepared.missing)
    if warm_up:
        found = estimate.from_warm_up(recipe, prepared.planned[0], prepared.model, device)
    else:
        gone = set(prepared.missing)
        done = [spec for spec in prepared.planned if spec not in gone]
        found = estimate.from_records(prepared.out, done) or estimate.from_normals(
            recipe, prepared.categories
        )
    return {
        "out": str(prepared.out),
        "recipe": recipe.to_json(),
        "model": prepared.facts["model"],
        "resumes": prepared.exists,
        "images": recipe.images,
        "images_to_do": missing,
        "shards": len(prepared.planned),
        "shards_to_do": len(prepared.missing),
        "bytes_to_do_at_most": missing * (3 * recipe.resolution**2 + 3072),
        **estimate.to_json(found, images=missing, workers=workers, rate=rate),
    }


def make_executor(config: WorkerConfig, execution: ExecutionOptions) -> Executor:
    """Returns the executor that the options name."""
    if execution.executor == "local":
        from sia_gen.executors.local import LocalExecutor

        return LocalExecutor(config, attempts=execution.attempts)
    from sia_gen.executors.ray import RayExecutor

    return RayExecutor(config, execution)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _brightness(prepared: Prepared) -> dict[str, Levels]:
    """Returns how bright the normal images are; what the run folder says of it stays."""
    stored = run_folder.read(prepared.out).get("normals") if prepared.exists else None
    if isinstance(stored, dict):
        return {name: Levels(**level) for name, level in stored.items()}
    if not source.resembles_normals(prepared.model):
        return {}
    side = prepared.recipe.resolution
    return {category.name: normals.levels(category, side) for category in prepared.categories}


def _make_folder(out: Location) -> None:
    if isinstance(out, ObjectPath):
        require_conditional_put(out)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {out} cannot be made: {error.strerror or error}") from error


def run(
    options: RunOptions,
    execution: ExecutionOptions,
    *,
    executor: Callable[[WorkerConfig, ExecutionOptions], Executor] = make_executor,
    only: frozenset[str] | None = None,
) -> dict[str, Any]:
    """Runs or resumes a generation and returns its closing figures as a JSON object.

    `only` names the shards to be made, where not all that are missing. Raises IncompleteError when
    shards failed, StoppedRunError after a signal, LockedError while another run holds the folder,
    UserError for anything else that the user can mend.
    """
    prepared = prepare(options)
    out, recipe = prepared.out, prepared.recipe
    brightness = _brightness(prepared)
    _make_folder(out)
    with lock.hold(out, join=execution.join) as token:
        # Asked again under the lock: another run may have begun or ended since.
        if not run_folder.require_same(out, recipe):
            run_folder.write(
                out,
                recipe,
                **prepared.facts,
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                normals={name: asdict(level) for name, level in brightness.items()},
                execution=asdict(execution),
                versions=versions("torch", "ray"),
            )
        missing = remaining(prepared.planned, out)
        chosen = [spec for spec in missing if only is None or spec.name in only]
        if not chosen:
            _say(
                f"nothing to do: {len(prepared.planned) - len(missing)} of"
                f" {len(prepared.planned)} shards of {out} are done"
            )
            summary, stop = Summary(done=0, images=0, failures=()), StopFlag()
        else:
            summary, stop = _execute(
                prepared, missing, chosen, execution, token, executor, brightness
            )
        if not run_folder.is_there(out):
            raise UserError(f"{summary.fatal or 'stopped'}: {out} has vanished")
        if lock.live_tokens(out) <= {token}:  # others may be writing
            claims.sweep(out)
            lock.sweep(out)
            for stray in run_folder.strays(out):
                stray.unlink(missing_ok=True)
        finished = index.gather(out, prepared.planned)
        try:
            index.write(out, recipe.to_json(), finished)
            card.write(out, recipe, finished, str(run_folder.read(out).get("started", "")))
        except UserError:
            # On a full disk the shards' own failure says more, and the next run writes these.
            if not summary.fatal:
                raise
    return _close(prepared, summary, stop, len(finished.shards))


def _execute(
    prepared: Prepared,
    missing: list[ShardSpec],
    chosen: list[ShardSpec],
    execution: ExecutionOptions,
    token: str,
    executor: Callable[[WorkerConfig, ExecutionOptions], Executor],
    brightness: dict[str, Levels],
) -> tuple[Summary, StopFlag]:
    recipe = prepared.recipe
    config = WorkerConfig(
        model=prepared.model,
        run=str(prepared.out),
        checkpoint_sha256=recipe.checkpoint_sha256,
        device=execution.device,
        precision=recipe.precision,
        steps=recipe.steps,
        sampler=recipe.sampler,
        threads=recipe.threads,
        token=token,
        encoding=find_encoding(recipe.format).name,
        normals=brightness,
    )
    to_do = sum(spec.count for spec in chosen)
    done = len(prepared.planned) - len(missing)
    _say(
        f"{recipe.images} images in {len(prepared.planned)} shards to {prepared.out}"
        + (f"; {done} shards are done" if done else "")
        + f"; {to_do} images to make with the {execution.executor} executor"
    )
    progress = Progress(
        prepared.out,
        images=recipe.images,
        done=recipe.images - sum(spec.count for spec in missing),
        shards=len(prepared.planned),
        done_shards=done,
        token=token if execution.join else None,
    )
    stop = StopFlag()
    stop.install()

    def on_event(event: Event) -> None:
        # Shown as long as there is a folder: when it vanishes, the workers say so themselves.
        if run_folder.is_there(prepared.out):
            progress(event)

    try:
        summary = executor(config, execution).run(chosen, on_event, stop)
        if run_folder.is_there(prepared.out):
            progress.close()
    finally:
        stop.restore()
    return summary, stop


def _close(prepared: Prepared, summary: Summary, stop: StopFlag, finished: int) -> dict[str, Any]:
    out, total = prepared.out, len(prepared.planned)
    again = "run the same command again to resume"
    if summary.fatal:
        free = shutil.disk_usage(out).free if isinstance(out, Path) else None
        room = "" if free is None else f", {readable_size(free)} free"
        message = f"{summary.fatal} ({finished} of {total} shards are done{room})"
        raise UserError(f"{message}: mend this, then {again}")
    if stop.signal is not None and finished < total:
        message = f"stopped by a signal: {finished} of {total} shards are done; {again}"
        raise StoppedRunError(stop.signal, message)
    if summary.failures:
        named = "; ".join(f"{f.shard} ({f.reason})" for f in summary.failures[:5])
        more = len(summary.failures) - 5
        message = (
            f"{len(summary.failures)} of {total} shards failed: {named}"
            + (f"; and {more} more" if more > 0 else "")
            + f". Tracebacks are in {out / 'failed'}; {again} them"
        )
        raise IncompleteError(message)
    return {
        "out": str(out),
        "images": prepared.recipe.images,
        "images_made_now": summary.images,
        "shards": total,
        "shards_made_now": summary.done,
        "shards_missing": total - finished,
    }
