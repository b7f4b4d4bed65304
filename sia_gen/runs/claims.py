"""Claims: which driver makes which shard, where several share a run folder.

A claim is a file that exactly one driver can create. That of a dead driver is taken over. Like the
lock it only saves work: a shard made twice would have the same bytes.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from sia_gen.core.store.documents import parse_json, read_limited
from sia_gen.core.store.files import create_bytes
from sia_gen.core.store.objects import Location
from sia_gen.runs import lock
from sia_gen.runs.spec import Shard

FOLDER = "claims"
LOOK = 1.0  # seconds for which a look at who is alive is good


class Claims:
    """The claims of one driver, known by the token of its lock."""

    def __init__(self, run: Location, token: str) -> None:
        self._folder, self._run, self._token = run / FOLDER, run, token
        self._held: set[Location] = set()
        self._living: set[str] = set()
        self._looked = float("-inf")

    def take(self, spec: Shard) -> bool:
        """Claims a shard; False where another living driver has it."""
        path = self._path(spec)
        if path in self._held:
            return True
        if isinstance(self._run, Path) and not self._run.is_dir():
            return True  # the folder vanished: no claim makes it anew, and the worker will say so
        content = json.dumps({"token": self._token}).encode()
        for _ in range(2):
            if create_bytes(path, content, durable=False):
                self._held.add(path)
                return True
            if self._live(path):
                return False
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return False

    def release(self, spec: Shard) -> None:
        """Gives a claim back."""
        path = self._path(spec)
        if path in self._held:
            self._held.discard(path)
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Gives all claims back."""
        for path in self._held:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        self._held.clear()

    def _path(self, spec: Shard) -> Location:
        return self._folder / f"{spec.dataset}--{spec.name}.json"

    def _live(self, path: Location) -> bool:
        try:
            token = parse_json(read_limited(path, lock.MAX_LOCK))["token"]
        except (OSError, ValueError, KeyError, TypeError):
            token = ""
        if token == self._token:
            return True
        if token in self._living and time.monotonic() - self._looked < LOOK:
            return True
        self._living, self._looked = lock.live_tokens(self._run), time.monotonic()
        return token in self._living


def sweep(run: Location) -> None:
    """Removes claims that dead drivers left; for a driver that is alone."""
    for path in (run / FOLDER).glob("*.json"):
        path.unlink(missing_ok=True)
    if isinstance(run, Path):
        with suppress(OSError):
            (run / FOLDER).rmdir()
