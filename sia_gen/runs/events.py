"""What happens while shards are made: told by whoever makes them, shown by whoever watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
