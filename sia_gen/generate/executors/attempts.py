"""Attempts: which shard is next, which is tried again, and which goes into quarantine.

An exception repeats itself: one retry, in case it was the device's. A lost worker (killed, hung,
out of memory) may be anybody's fault: a few attempts, each at the back of the queue. A shard that
another driver has claimed is waited for, and taken over when that driver dies.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sia_gen.core.store.files import write_json
from sia_gen.core.store.objects import Location, locate
from sia_gen.core.store.shards import is_done, record_path
from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.executors.contract import Failure, Summary
from sia_gen.runs.claims import Claims
from sia_gen.runs.events import Event
from sia_gen.runs.spec import Shard

ERROR_ATTEMPTS = 2
FAILED = "failed"
LOOK = 2.0  # seconds between looks at what other drivers have finished


def failure_path(run: Location, spec: Shard) -> Location:
    """Returns where a quarantined shard's last words are kept."""
    return run / FAILED / f"{spec.label}.json"


class Ledger:
    """The queue of shards and the attempts that were lost."""

    def __init__(self, specs: Iterable[Shard], config: WorkerConfig, *, lost_attempts: int) -> None:
        self._queue = deque(specs)
        self.first = self._queue[0] if self._queue else None  # what workers get ready for
        self._elsewhere: deque[Shard] = deque()
        self._run = locate(config.run)
        self._claims = Claims(self._run, config.token) if config.token else None
        self._lost_attempts = lost_attempts
        self._lost: dict[str, list[dict[str, Any]]] = {}
        self._failures: list[Failure] = []
        self._looked = time.monotonic()
        self.done = 0
        self.images = 0

    def __len__(self) -> int:
        """The shards that wait, here or for another driver to finish them."""
        return len(self._queue) + len(self._elsewhere)

    @property
    def ready(self) -> int:
        """The shards that may be taken."""
        return len(self._queue)

    def take(self) -> tuple[Shard, int] | None:
        """Returns the next shard and the number of this attempt, from 1; None for none now."""
        while self._queue:
            spec = self._queue.popleft()
            if self._claim(spec):
                return spec, len(self._lost.get(spec.file, ())) + 1
            self._elsewhere.append(spec)
        return None

    def _claim(self, spec: Shard) -> bool:
        if self._claims is None:
            return True
        if not self._claims.take(spec):
            return False
        if self._finished_elsewhere(spec):
            self._claims.release(spec)
            return False
        return True

    def _finished_elsewhere(self, spec: Shard) -> bool:
        path = self._run / spec.file
        return record_path(path).is_file() and is_done(path, spec.spec_hash)

    def look(self) -> list[Event]:
        """Returns what other drivers have finished since; what they left may be taken again."""
        now = time.monotonic()
        if not self._elsewhere or now - self._looked < LOOK:
            return []
        self._looked = now
        waiting, self._elsewhere = self._elsewhere, deque()
        events = []
        for spec in waiting:
            if self._finished_elsewhere(spec):
                events.append(Event(kind="elsewhere", shard=spec.name, images=spec.count))
            else:
                self._queue.append(spec)
        return events

    def close(self) -> None:
        """Gives back what was claimed and not finished."""
        if self._claims is not None:
            self._claims.close()

    def _release(self, spec: Shard) -> None:
        if self._claims is not None:
            self._claims.release(spec)

    def succeed(self, spec: Shard, answer: dict[str, Any]) -> Event:
        """Counts a finished shard; what an earlier run said of its failure is no longer true."""
        self.done += 1
        self.images += answer["images"]
        failure_path(self._run, spec).unlink(missing_ok=True)
        self._release(spec)
        attempt = len(self._lost.get(spec.file, ())) + 1
        return Event(
            kind="done",
            shard=spec.name,
            images=answer["images"],
            seconds=answer["seconds"],
            attempt=attempt,
            message=answer.get("remark", ""),
        )

    def fail(self, spec: Shard, kind: str, error: str, traceback: str = "") -> Event:
        """Counts a lost attempt: the shard goes to the back of the queue, or into quarantine.

        `kind` is "error" for an exception; anything else means that the worker itself was lost.
        """
        lost = self._lost.setdefault(spec.file, [])
        lost.append({"kind": kind, "error": error, "traceback": traceback})
        errors = sum(item["kind"] == "error" for item in lost)
        if errors < ERROR_ATTEMPTS and len(lost) < self._lost_attempts:
            self._queue.append(spec)
            return Event(kind="retry", shard=spec.name, attempt=len(lost), message=error)
        self._failures.append(Failure(shard=spec.name, attempts=len(lost), reason=error))
        content = {
            "shard": spec.name,
            "file": spec.file,
            "category": spec.key,
            "spec_hash": spec.spec_hash,
            "attempts": lost,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(failure_path(self._run, spec), content)
        self._release(spec)
        return Event(kind="failed", shard=spec.name, attempt=len(lost), message=error)

    def summary(self, *, stopped: bool = False, fatal: str = "") -> Summary:
        """Returns how it went."""
        return Summary(
            done=self.done,
            images=self.images,
            failures=tuple(self._failures),
            stopped=stopped,
            fatal=fatal,
        )
