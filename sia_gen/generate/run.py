"""A generation run from its options to its index files; the same call again resumes it.

Everything that can be refused is refused before anything is written and before torch or Ray start.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.pixels.encoding import find_encoding
from sia_gen.core.provenance import versions
from sia_gen.core.signals import StopFlag
from sia_gen.core.store.objects import Location, ObjectPath, require_conditional_put
from sia_gen.generate import card
from sia_gen.generate import levels as normals
from sia_gen.generate import model as source
from sia_gen.generate.executors.contract import Event, Executor, Summary
from sia_gen.generate.options import ExecutionOptions, RunOptions
from sia_gen.generate.plan import ShardSpec, remaining
from sia_gen.generate.prepare import Prepared, describe_plan, prepare, readable_size
from sia_gen.generate.worker import WorkerConfig
from sia_gen.runs import claims, index, lock
from sia_gen.runs import folder as run_folder
from sia_gen.runs.progress import Progress
from sia_gen.runs.shard_health import Levels

__all__ = ["StoppedRunError", "describe_plan", "prepare", "readable_size", "run"]


class StoppedRunError(Exception):
    """A signal ended the run; what was published stays."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


def make_executor(config: WorkerConfig, execution: ExecutionOptions) -> Executor:
    """Returns the executor that the options name."""
    if execution.executor == "local":
        from sia_gen.generate.executors.local import LocalExecutor

        return LocalExecutor(config, attempts=execution.attempts)
    from sia_gen.generate.executors.ray import RayExecutor

    return RayExecutor(config, execution)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _brightness(prepared: Prepared) -> dict[str, Levels]:
    """Returns how bright the normal images are; what the run folder says of it stays.

    A model that is used in spite of its health is not judged by its brightness either: then {}.
    """
    stored = run_folder.read(prepared.out).get("normals") if prepared.exists else None
    if isinstance(stored, dict):
        return {name: Levels(**level) for name, level in stored.items()}
    if prepared.facts["model"]["forced"] or not source.resembles_normals(prepared.model):
        return {}
    side = prepared.recipe.resolution
    return {category.key: normals.levels(category, side) for category in prepared.categories}


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
        guidance=prepared.guidance,
        guidance_sha256=recipe.guidance_sha256,
        guidance_scale=recipe.guidance_scale,
        compile=recipe.compile,
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
