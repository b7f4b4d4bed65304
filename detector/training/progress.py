"""Progress on stderr: a bar on a terminal, a line every ten seconds anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

INTERVAL = 10.0  # seconds between lines where stderr is no terminal


class Progress:
    """Shows how far a training is, its speed and the time left."""

    def __init__(
        self, label: str, first: int, total: int, unit_size: int, *, shown: bool = True
    ) -> None:
        self.label, self.first, self.total, self.unit_size = label, first, total, unit_size
        self.started = self.last = time.monotonic()
        self.shown = shown  # of several processes only the first speaks
        self.bar = None
        if shown and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=first, desc=label, unit="step", file=sys.stderr)

    def rate(self, step: int) -> float:
        """Returns the pairs per second so far."""
        return (step - self.first) * self.unit_size / max(time.monotonic() - self.started, 1e-9)

    def update(self, step: int, loss: float) -> None:
        """Shows that `step` steps are done."""
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.4f}, {self.rate(step):.1f} pairs/s")
            self.bar.update(step - self.bar.n)
            return
        if not self.shown or time.monotonic() - self.last < INTERVAL:
            return
        self.last = time.monotonic()
        rate = self.rate(step)
        left = (self.total - step) * self.unit_size / max(rate, 1e-9)
        print(
            f"{self.label}: step {step}/{self.total}, loss {loss:.4f}, {rate:.1f} pairs/s,"
            f" {_duration(left)} left",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """Leaves the bar as it is and goes to the next line."""
        if self.bar is not None:
            self.bar.close()


def counted(items: Iterable[T], total: int, label: str, *, shown: bool = True) -> Iterator[T]:
    """Yields the items, and tells how many of the total are done: what goes before step 1."""
    if shown and sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, leave=False, file=sys.stderr)
        return
    last = time.monotonic()
    for done, item in enumerate(items):
        if shown and time.monotonic() - last >= INTERVAL:
            last = time.monotonic()
            print(f"{label}: {done}/{total}", file=sys.stderr, flush=True)
        yield item


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
    )
