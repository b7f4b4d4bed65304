"""What every executor takes and gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from sia_gen.generate.plan import ShardSpec


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something worth showing.

    worker: a worker is ready (message says where). progress: `images` made of unfinished shards.
    done: `images` of a finished shard; elsewhere: the same, finished by another driver. retry,
    failed: an attempt or a shard lost, with the reason.
    """

    kind: Literal["worker", "progress", "done", "elsewhere", "retry", "failed", "note"]
    shard: str = ""
    images: int = 0
    seconds: float = 0.0
    attempt: int = 0
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A quarantined shard."""

    shard: str
    attempts: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run of an executor ended; `fatal` is the reason why it could not go on."""

    done: int
    images: int
    failures: tuple[Failure, ...]
    stopped: bool = False
    fatal: str = ""


class Stop(Protocol):
    """Asked between batches whether to end."""

    def is_set(self) -> bool:
        """Returns whether the run is to stop."""

    def install(self) -> None:
        """Puts the signal handlers (back) in place; Ray replaces them when it starts."""


class Executor(Protocol):
    """Runs shards on workers. A failing shard never ends the others; it is counted and named."""

    def run(
        self, specs: Iterable[ShardSpec], on_event: Callable[[Event], None], stop: Stop
    ) -> Summary:
        """Runs every shard to its end or its quarantine, until `stop` is set."""
