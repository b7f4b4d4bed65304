"""What every executor takes and gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from sia_gen.runs.events import Event
from sia_gen.runs.spec import Shard


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

    def run(self, specs: Iterable[Shard], on_event: Callable[[Event], None], stop: Stop) -> Summary:
        """Runs every shard to its end or its quarantine, until `stop` is set."""
