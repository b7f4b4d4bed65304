"""Progress of a run: a bar on a terminal, one line a shard elsewhere, and a file.

progress.json lets `sia-gen status` tell the rate and the time left without asking the run.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sia_gen.core.log import on_terminal, say
from sia_gen.core.progress import duration
from sia_gen.core.store.files import write_json
from sia_gen.core.store.objects import Location
from sia_gen.runs.events import Event
from sia_gen.runs.lock import DRIVERS

if TYPE_CHECKING:
    from sia_gen.runs.metrics import Metrics

NAME = "progress.json"
FILE_EVERY = 5.0  # seconds
FILE_EVERY_IN_STORES = 20.0  # every write is a paid request


def readable_size(size: int) -> str:
    """Returns a number of bytes as text, such as 12.3 MiB."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


class Progress:
    """Shows the events of an executor."""

    def __init__(
        self,
        run: Location,
        *,
        images: int,
        done: int,
        shards: int,
        done_shards: int,
        token: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._run, self._images, self._shards = run, images, shards
        self._metrics = metrics
        self._name = NAME if token is None else f"{DRIVERS}/{token}.{NAME}"
        self._every = FILE_EVERY if isinstance(run, Path) else FILE_EVERY_IN_STORES
        self._done, self._done_shards = done, done_shards
        self._made = 0  # by this process, in finished shards
        self._unfinished = 0
        self._failed = 0
        self._retries = 0
        self._workers = "starting"
        self._started = time.monotonic()
        self._working: float | None = None
        self._last_file = 0.0
        self._terminal = on_terminal()
        # Its own rate would count what others and earlier runs have made.
        style = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images{postfix}"
        self._bar = tqdm(
            total=images, initial=done, disable=not self._terminal, bar_format=style, leave=False
        )

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        if event.kind == "worker":
            self._workers = event.message
            self._working = self._working or time.monotonic()
            self._say(f"worker: {event.message}", event)
        elif event.kind == "progress":
            self._unfinished = event.images
        elif event.kind in {"done", "elsewhere"}:
            self._finish(event)
        elif event.kind == "retry":
            self._retries += 1
            self._say(
                f"{event.shard}: attempt {event.attempt} lost, again later: {event.message}",
                event,
                level="warning",
            )
        elif event.kind == "failed":
            self._failed += 1
            self._say(
                f"{event.shard}: FAILED after {event.attempt} attempts: {event.message}",
                event,
                level="error",
            )
        else:
            self._say(event.message)
        if self._terminal:
            self._bar.n = min(self._images, self._done + self._unfinished)
            shards = f"{self._done_shards}/{self._shards} shards"
            self._bar.set_postfix_str(", ".join([*self._figures(), shards]), refresh=False)
            self._bar.update(0)
        self._file()

    def close(self) -> None:
        """Ends the bar and leaves the last figures in the file."""
        self._bar.close()
        self._unfinished = 0
        self._file(force=True)

    @property
    def rate(self) -> float:
        """Images a second since the first worker was ready; 0.0 before the first image."""
        if self._working is None:
            return 0.0
        passed = time.monotonic() - self._working
        return (self._made + self._unfinished) / passed if passed > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds left; None before the first image."""
        now = self._done + self._unfinished
        return (self._images - now) / self.rate if self.rate > 0 else None

    def _finish(self, event: Event) -> None:
        self._done += event.images
        self._done_shards += 1
        if event.kind == "elsewhere":
            if not self._terminal:
                text = f"[{self._done_shards}/{self._shards}] {event.shard}: by another driver"
                self._say(text, event)
            return
        self._unfinished = max(0, self._unfinished - event.images)
        self._made += event.images
        if self._terminal and not event.message:
            return
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        remark = f", {event.message}" if event.message else ""
        now = min(self._images, self._done + self._unfinished)
        share = f"{100 * now / self._images:.0f}%, {now}/{self._images} images"
        self._say(
            f"[{self._done_shards}/{self._shards}] {event.shard}: {event.images} images in"
            f" {event.seconds:.1f} s{again}{remark}; {', '.join([share, *self._figures()])}",
            event,
            images_done=self._done,
            images_per_second=round(self.rate, 4),
        )

    def _figures(self) -> list[str]:
        left = self.left
        parts = [f"{self.rate:.3g} images/s"] if self.rate else []
        if left is not None:
            parts.append(f"{duration(left)} left")
        if self._failed:
            parts.append(f"{self._failed} shards failed")
        return parts

    def _say(self, text: str, event: Event | None = None, **numbers: Any) -> None:
        if event is not None:
            facts = {k: v for k, v in asdict(event).items() if v and k not in {"kind", "message"}}
            numbers = {"event": event.kind, **facts, **numbers}
        with tqdm.external_write_mode(file=sys.stderr):
            say(text, **numbers)

    def _file(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last_file < self._every:
            return
        self._last_file = now
        left = self.left
        content: dict[str, Any] = {
            "images": self._images,
            "images_done": self._done,
            "images_in_work": self._unfinished,
            "shards": self._shards,
            "shards_done": self._done_shards,
            "shards_failed": self._failed,
            "retries": self._retries,
            "images_per_second": round(self.rate, 4),
            "seconds_left": None if left is None else round(left, 1),
            "seconds": round(now - self._started, 1),
            "seconds_starting": self._working and round(self._working - self._started, 1),
            "workers": self._workers,
        }
        write_json(self._run / self._name, content)
        if self._metrics is not None:
            self._metrics.update(content)
