"""SIGINT and SIGTERM: the first asks the run to stop, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """Is set by a signal. `install` may be called again: Ray replaces handlers when it starts."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def is_set(self) -> bool:
        """Returns whether a signal came."""
        return self.signal is not None

    def install(self) -> None:
        """Puts the handlers in place; outside the main thread Python allows none."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous = signal.signal(number, self._handle)
            self._previous.setdefault(number, previous)

    def restore(self) -> None:
        """Puts back the handlers that were there before the first install."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            # Asked twice: what is on disk is whole at any moment, and the lock of a dead process
            # holds nobody up.
            os._exit(128 + number)
        self.signal = number
