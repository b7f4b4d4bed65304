"""Progress of a run: one moving line on a terminal, one line a shard elsewhere, and a file.

progress.json lets `sia-gen status` tell the rate and the time left without asking the run.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, TextIO

from sia_gen.core.store.files import write_json
from sia_gen.core.store.objects import Location
from sia_gen.generate.executors.contract import Event
from sia_gen.runs.lock import DRIVERS

NAME = "progress.json"
FILE_EVERY = 5.0  # seconds
FILE_EVERY_IN_STORES = 20.0  # every write is a paid request
LINE_EVERY = 0.25


def duration(seconds: float) -> str:
    """Returns seconds as 0:49, 12:03 or 5:00:00."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
    ) -> None:
        self._run, self._images, self._shards = run, images, shards
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
        self._last_line = self._last_file = 0.0
        self._stream: TextIO = sys.stderr
        self._terminal = self._stream.isatty()
        self._width = 0

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        if event.kind == "worker":
            self._workers = event.message
            self._working = self._working or time.monotonic()
            self._say(f"worker: {event.message}")
        elif event.kind == "progress":
            self._unfinished = event.images
        elif event.kind in {"done", "elsewhere"}:
            self._finish(event)
        elif event.kind == "retry":
            self._retries += 1
            self._say(f"{event.shard}: attempt {event.attempt} lost, again later: {event.message}")
        elif event.kind == "failed":
            self._failed += 1
            self._say(f"{event.shard}: FAILED after {event.attempt} attempts: {event.message}")
        else:
            self._say(event.message)
        self._line()
        self._file()

    def close(self) -> None:
        """Ends the moving line and leaves the last figures in the file."""
        self._clear()
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
                self._say(f"[{self._done_shards}/{self._shards}] {event.shard}: by another driver")
            return
        self._unfinished = max(0, self._unfinished - event.images)
        self._made += event.images
        if self._terminal:
            return
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        self._say(
            f"[{self._done_shards}/{self._shards}] {event.shard}: {event.images} images in"
            f" {event.seconds:.1f} s{again}; {self._figures()}"
        )

    def _figures(self) -> str:
        now = min(self._images, self._done + self._unfinished)
        left = self.left
        parts = [f"{100 * now / self._images:.0f}%", f"{now}/{self._images} images"]
        if self.rate:
            parts.append(f"{self.rate:.3g} images/s")
        if left is not None:
            parts.append(f"{duration(left)} left")
        if self._failed:
            parts.append(f"{self._failed} shards failed")
        return ", ".join(parts)

    def _clear(self) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._width = 0

    def _say(self, text: str) -> None:
        self._clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def _line(self) -> None:
        now = time.monotonic()
        if not self._terminal or now - self._last_line < LINE_EVERY:
            return
        self._last_line = now
        text = f"{self._figures()}, {self._done_shards}/{self._shards} shards"
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)

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
            "workers": self._workers,
        }
        write_json(self._run / self._name, content)
