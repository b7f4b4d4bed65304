"""How far a long loop is: a bar on a terminal, a line every ten seconds anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from sia_gen.core.log import on_terminal, say

T = TypeVar("T")

INTERVAL = 10.0  # seconds between lines where nobody looks on


def duration(seconds: float) -> str:
    """Returns seconds as 0:49, 12:03 or 5:00:00."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Shows how many of `total` steps are done, how fast, and the time left.

    A step is `each` of `things`: images, pairs. `first` steps were done before. Of several
    processes only the first is `shown`.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        first: int = 0,
        each: int = 1,
        things: str = "images",
        shown: bool = True,
    ) -> None:
        self.label, self.first, self.total = label, first, total
        self.each, self.things, self.shown = each, things, shown
        self.started = self.told = time.monotonic()
        self.bar = None
        if shown and on_terminal():
            self.bar = tqdm(total=total, initial=first, desc=label, unit="step", file=sys.stderr)

    def rate(self, step: int) -> float:
        """Returns the things a second so far."""
        return (step - self.first) * self.each / max(time.monotonic() - self.started, 1e-9)

    def update(self, step: int, **figures: float) -> None:
        """Shows that `step` steps are done, with figures such as a loss."""
        if not self.shown:
            return
        rate = self.rate(step)
        parts = [*(f"{name} {value:.4f}" for name, value in figures.items())]
        parts.append(f"{rate:.1f} {self.things}/s")
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(parts), refresh=False)
            self.bar.update(step - self.bar.n)
            return
        if time.monotonic() - self.told < INTERVAL:
            return
        self.told = time.monotonic()
        left = (self.total - step) * self.each / max(rate, 1e-9)
        say(
            f"{self.label}: {step}/{self.total}, {', '.join(parts)}, {duration(left)} left",
            step=step, steps=self.total, per_second=round(rate, 3), seconds_left=round(left, 1),
            **figures,
        )  # fmt: skip

    def close(self) -> None:
        """Leaves the bar as it is and goes to the next line."""
        if self.bar is not None:
            self.bar.close()


def counter(label: str, things: str) -> Callable[[int, int], None]:
    """Returns what a loop calls with (done, total)."""
    shown: list[Progress] = []

    def count(done: int, total: int) -> None:
        if not shown:
            shown.append(Progress(label, total, things=things))
        shown[0].update(done)
        if done == total:
            shown[0].close()

    return count


def counted(items: Iterable[T], total: int, label: str, *, shown: bool = True) -> Iterator[T]:
    """Yields the items, and tells how many of the total are done: what goes before step 1."""
    if shown and on_terminal():
        yield from tqdm(items, total=total, desc=label, leave=False, file=sys.stderr)
        return
    last = time.monotonic()
    for done, item in enumerate(items):
        if shown and time.monotonic() - last >= INTERVAL:
            last = time.monotonic()
            say(f"{label}: {done}/{total}")
        yield item
