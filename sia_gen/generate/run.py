"""A run of the factory from a checked plan to its index files; the same call again resumes it.

Everything that can be refused is refused before anything is written and before torch or Ray start.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sia_gen.core.errors import IncompleteError, StoppedError, UserError
from sia_gen.core.log import say
from sia_gen.core.provenance import versions
from sia_gen.core.signals import StopFlag
from sia_gen.core.store.objects import Location, ObjectPath, require_conditional_put
from sia_gen.generate import card, contents
from sia_gen.generate.content import Prepared, WorkerConfig
from sia_gen.generate.executors.contract import Executor, Summary
from sia_gen.generate.options import ExecutionOptions
from sia_gen.runs import claims, folder, index, lock
from sia_gen.runs.events import Event
from sia_gen.runs.progress import Progress, readable_size
from sia_gen.runs.spec import Shard, remaining


def make_executor(config: WorkerConfig, execution: ExecutionOptions) -> Executor:
    """Returns the executor that the options name."""
    if execution.executor == "local":
        from sia_gen.generate.executors.local import LocalExecutor

        return LocalExecutor(config, attempts=execution.attempts)
    from sia_gen.generate.executors.ray import RayExecutor

    return RayExecutor(config, execution)


def _make_folder(out: Location) -> None:
    if isinstance(out, ObjectPath):
        require_conditional_put(out)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {out} cannot be made: {error.strerror or error}") from error


def run(
    prepared: Prepared,
    execution: ExecutionOptions,
    *,
    executor: Callable[[WorkerConfig, ExecutionOptions], Executor] = make_executor,
    only: frozenset[str] | None = None,
) -> dict[str, Any]:
    """Makes or resumes what was prepared and returns the closing figures as a JSON object.

    `only` names the shards to be made, where not all that are missing. Raises IncompleteError when
    shards failed, StoppedError after a signal, LockedError while another run holds the folder,
    UserError for anything else that the user can mend.
    """
    out, recipe, content = prepared.out, prepared.recipe, contents.find(prepared.kind)
    measured = prepared.measured(folder.read(out) if prepared.exists else {})
    _make_folder(out)
    with lock.hold(out, join=execution.join) as token:
        # Asked again under the lock: another run may have begun or ended since.
        if not folder.require_same(out, prepared.kind, recipe, alone=not execution.join):
            begun = {
                **prepared.document,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                **measured,
                "execution": asdict(execution),
                "versions": versions("torch", "ray"),
            }
            folder.begin(out, prepared.kind, recipe, begun, alone=not execution.join)
        missing = remaining(prepared.planned, out)
        chosen = [spec for spec in missing if only is None or spec.label in only]
        if not chosen:
            say(
                f"nothing to do: {len(prepared.planned) - len(missing)} of"
                f" {len(prepared.planned)} shards of {out} are done"
            )
            summary, stop = Summary(done=0, images=0, failures=()), StopFlag()
        else:
            if not content.HEAVY and execution.executor == "ray" and execution.num_gpus is None:
                execution = replace(execution, num_gpus=0.0)
            config = WorkerConfig(
                kind=prepared.kind,
                run=str(out),
                given={**prepared.given, **measured},
                device=execution.device,
                threads=prepared.threads,
                token=token,
            )
            summary, stop = _execute(prepared, missing, chosen, config, execution, executor)
        if not folder.is_there(out):
            raise UserError(f"{summary.fatal or 'stopped'}: {out} has vanished")
        if lock.live_tokens(out) <= {token}:  # others may be writing
            claims.sweep(out)
            lock.sweep(out)
            folder.sweep(out)
        finished = index.gather(out, prepared.planned)
        try:
            index.write(out, prepared.summary or recipe, finished)
            document = folder.read(out)
            told = content.card(document, finished)
            card.write(out, told, finished, str(document.get("started", "")))
        except UserError:
            # On a full disk the shards' own failure says more, and the next run writes these.
            if not summary.fatal:
                raise
    return _close(prepared, summary, stop, len(finished.shards))


def _execute(
    prepared: Prepared,
    missing: Sequence[Shard],
    chosen: Sequence[Shard],
    config: WorkerConfig,
    execution: ExecutionOptions,
    executor: Callable[[WorkerConfig, ExecutionOptions], Executor],
) -> tuple[Summary, StopFlag]:
    images = sum(spec.count for spec in prepared.planned)
    to_do = sum(spec.count for spec in chosen)
    done = len(prepared.planned) - len(missing)
    say(
        f"{images} images in {len(prepared.planned)} shards to {prepared.out}"
        + (f"; {done} shards are done" if done else "")
        + f"; {to_do} images to make with the {execution.executor} executor"
    )
    metrics = None
    if execution.metrics_file or execution.metrics_port:
        from sia_gen.runs.metrics import Metrics

        metrics = Metrics(str(prepared.out), execution.metrics_file, execution.metrics_port)
    progress = Progress(
        prepared.out,
        images=images,
        done=images - sum(spec.count for spec in missing),
        shards=len(prepared.planned),
        done_shards=done,
        token=config.token if execution.join else None,
        metrics=metrics,
    )
    stop = StopFlag()
    stop.install()

    def on_event(event: Event) -> None:
        # Shown as long as there is a folder: when it vanishes, the workers say so themselves.
        if folder.is_there(prepared.out):
            progress(event)

    try:
        summary = executor(config, execution).run(chosen, on_event, stop)
        if folder.is_there(prepared.out):
            progress.close()
    finally:
        stop.restore()
        if metrics is not None:
            metrics.close()
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
        raise StoppedError(stop.signal, message)
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
        "images": sum(spec.count for spec in prepared.planned),
        "images_made_now": summary.images,
        "shards": total,
        "shards_made_now": summary.done,
        "shards_missing": total - finished,
    }
