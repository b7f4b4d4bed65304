"""A generation run from its options to its index files; the same call again resumes it.

Everything that can be refused is refused before anything is written and before torch or Ray start.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sia_gen import index, lock, run_folder, source
from sia_gen.core.dataset import Category, open_dataset
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.images import read_size
from sia_gen.core.provenance import versions
from sia_gen.executors.contract import Event, Executor, Summary
from sia_gen.options import ExecutionOptions, RunOptions
from sia_gen.plan import LEAST_BYTES, USUAL_BYTES, Recipe, ShardSpec, remaining, specs
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

    out: Path
    recipe: Recipe
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


def _require_space(out: Path, recipe: Recipe, missing: list[ShardSpec]) -> None:
    """Refuses a run that cannot fit: its images at the best compression are more than is free."""
    folder = out
    while not folder.exists():
        folder = folder.parent
    images = sum(spec.count for spec in missing)
    needed = int(images * 3 * recipe.resolution**2 * LEAST_BYTES)
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = (
            f"output {out}: {images} images need at least {readable_size(needed)}, but only"
            f" {readable_size(free)} are free in {folder}: free space, or give another --out"
        )
        raise UserError(message)


def prepare(options: RunOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data, model or output."""
    out = run_folder.check_output(options.out)
    dataset = open_dataset(options.data)
    categories = dataset.select(options.categories)
    for root in dataset.roots:
        run_folder.require_apart(out, root)
    _check_images(categories)
    model = source.locate(options.model)
    facts = source.describe(model)
    source.require_classes(options.model, facts, [category.name for category in categories])
    several = dataset.layout == "set"
    names = tuple(category.key if several else category.name for category in categories)
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
    )
    planned = specs(recipe)
    exists = run_folder.require_same(out, recipe)
    missing = remaining(planned, out) if exists else planned
    _require_space(out, recipe, missing)
    return Prepared(
        out=out,
        recipe=recipe,
        model=model,
        facts={
            "options": asdict(options),
            "data": dataset.origin,
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


def describe_plan(prepared: Prepared, *, rate: float | None = None) -> dict[str, Any]:
    """Returns the plan's figures as a JSON object; `rate` in images a second gives the time."""
    missing = sum(spec.count for spec in prepared.missing)
    per_image = 3 * prepared.recipe.resolution**2
    return {
        "out": str(prepared.out),
        "recipe": prepared.recipe.to_json(),
        "model": prepared.facts["model"],
        "resumes": prepared.exists,
        "images": prepared.recipe.images,
        "images_to_do": missing,
        "shards": len(prepared.planned),
        "shards_to_do": len(prepared.missing),
        "bytes_to_do_estimated": int(missing * per_image * USUAL_BYTES),
        "bytes_to_do_at_most": missing * (per_image + 3072),
        "seconds_estimated": round(missing / rate, 1) if rate else None,
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


def run(
    options: RunOptions,
    execution: ExecutionOptions,
    *,
    executor: Callable[[WorkerConfig, ExecutionOptions], Executor] = make_executor,
) -> dict[str, Any]:
    """Runs or resumes a generation and returns its closing figures as a JSON object.

    Raises IncompleteError when shards failed, StoppedRunError after a signal, LockedError while
    another run holds the folder, UserError for anything else that the user can mend.
    """
    prepared = prepare(options)
    out, recipe = prepared.out, prepared.recipe
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {out} cannot be made: {error.strerror or error}") from error
    with lock.hold(out) as token:
        # Asked again under the lock: another run may have begun or ended since.
        if not run_folder.require_same(out, recipe):
            made_by = {"execution": asdict(execution), "versions": versions("torch", "ray")}
            run_folder.write(out, recipe, **prepared.facts, **made_by)
        missing = remaining(prepared.planned, out)
        if not missing:
            _say(f"nothing to do: all {len(prepared.planned)} shards of {out} are done")
            summary, stop = Summary(done=0, images=0, failures=()), StopFlag()
        else:
            summary, stop = _execute(prepared, missing, execution, token, executor)
        if not out.is_dir():
            raise UserError(f"{summary.fatal or 'stopped'}: {out} has vanished")
        for stray in run_folder.strays(out):
            stray.unlink(missing_ok=True)
        finished = index.write(out, recipe)
    return _close(prepared, summary, stop, finished)


def _execute(
    prepared: Prepared,
    missing: list[ShardSpec],
    execution: ExecutionOptions,
    token: str,
    executor: Callable[[WorkerConfig, ExecutionOptions], Executor],
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
    )
    to_do = sum(spec.count for spec in missing)
    done = len(prepared.planned) - len(missing)
    _say(
        f"{recipe.images} images in {len(prepared.planned)} shards to {prepared.out}"
        + (f"; {done} shards are done" if done else "")
        + f"; {to_do} images to make with the {execution.executor} executor"
    )
    progress = Progress(
        prepared.out,
        images=recipe.images,
        done=recipe.images - to_do,
        shards=len(prepared.planned),
        done_shards=done,
    )
    stop = StopFlag()
    stop.install()

    def on_event(event: Event) -> None:
        # Shown as long as there is a folder: when it vanishes, the workers say so themselves.
        if prepared.out.is_dir():
            progress(event)

    try:
        summary = executor(config, execution).run(missing, on_event, stop)
        if prepared.out.is_dir():
            progress.close()
    finally:
        stop.restore()
    return summary, stop


def _close(prepared: Prepared, summary: Summary, stop: StopFlag, finished: int) -> dict[str, Any]:
    out, total = prepared.out, len(prepared.planned)
    again = "run the same command again to resume"
    if summary.fatal:
        free = readable_size(shutil.disk_usage(out).free)
        message = f"{summary.fatal} ({finished} of {total} shards are done, {free} free)"
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
    }
