"""Attempts: which shard is next, which is tried again, and which goes into quarantine.

An exception repeats itself: one retry, in case it was the device's. A lost worker (killed, hung,
out of memory) may be anybody's fault: a few attempts, each at the back of the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sia_gen.core.files import write_json
from sia_gen.executors.contract import Event, Failure, Summary
from sia_gen.plan import ShardSpec

ERROR_ATTEMPTS = 2
FAILED = "failed"


def failure_path(run: Path, spec: ShardSpec) -> Path:
    """Returns where a quarantined shard's last words are kept."""
    return run / FAILED / f"{spec.name}.json"


class Ledger:
    """The queue of shards and the attempts that were lost."""

    def __init__(self, specs: Iterable[ShardSpec], run: Path, *, lost_attempts: int) -> None:
        self._queue = deque(specs)
        self._run = run
        self._lost_attempts = lost_attempts
        self._lost: dict[str, list[dict[str, Any]]] = {}
        self._failures: list[Failure] = []
        self.done = 0
        self.images = 0

    def __len__(self) -> int:
        return len(self._queue)

    def take(self) -> tuple[ShardSpec, int]:
        """Returns the next shard and the number of this attempt, from 1."""
        spec = self._queue.popleft()
        return spec, len(self._lost.get(spec.file, ())) + 1

    def succeed(self, spec: ShardSpec, answer: dict[str, Any]) -> Event:
        """Counts a finished shard; what an earlier run said of its failure is no longer true."""
        self.done += 1
        self.images += answer["images"]
        failure_path(self._run, spec).unlink(missing_ok=True)
        attempt = len(self._lost.get(spec.file, ())) + 1
        return Event(
            kind="done",
            shard=spec.name,
            images=answer["images"],
            seconds=answer["seconds"],
            attempt=attempt,
        )

    def fail(self, spec: ShardSpec, kind: str, error: str, traceback: str = "") -> Event:
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
