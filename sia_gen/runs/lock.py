"""Who is at work in a folder: lock.json names the run that holds it, drivers/ those that joined.

Locks of file systems are unreliable on networks, so this one is courtesy with a name on it: pid,
host and a heartbeat. A lock whose process is dead on this host, or silent for minutes anywhere
(stopped, or on a host that is gone), is taken over. How long it was silent is told by the clock of
the store, where ours and the lock's could differ. Correctness never rests on it: shards are
published atomically and byte-equal.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sia_gen.core.errors import LockedError
from sia_gen.core.store.documents import parse_json, read_limited
from sia_gen.core.store.files import TEMPORARY_PREFIX, create_bytes
from sia_gen.core.store.objects import Location, ObjectPath

NAME = "lock.json"
DRIVERS = "drivers"
HEARTBEAT = 10.0  # seconds
MAX_LOCK = 10_000  # bytes of such a file
SILENCE = 120.0  # seconds after which a lock of another host is taken over


def _process_start(pid: int) -> int | None:
    """Returns when a process of this host started, in the kernel's ticks; None where unknown.

    Pids are used again: pid and start together are not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _alive(holder: dict[str, Any]) -> bool:
    pid = int(holder["pid"])
    if Path("/proc/self/stat").exists():
        start = _process_start(pid)
        return start is not None and start == holder.get("process_start")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _silence(path: Location) -> float:
    """Returns for how many seconds a file was not touched.

    Where our clock says that it is too long, or that it lies in the future, the clock of the file
    system or store decides: those of two hosts may be minutes apart.
    """
    touched = path.stat().st_mtime
    silence = time.time() - touched
    if 0 <= silence < SILENCE:
        return silence
    with suppress(OSError):  # a reader may have no right to write: then ours is all there is
        return _store_time(path.parent) - touched
    return silence


def _store_time(folder: Location) -> float:
    if isinstance(folder, ObjectPath):
        return folder.now()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=TEMPORARY_PREFIX) as file:
        file.write(b"x")
        file.flush()
        return Path(file.name).stat().st_mtime


def _holder(path: Location) -> dict[str, Any] | None:
    """Returns who wrote a lock file, with "live": bool; None where there is none."""
    try:
        holder = parse_json(read_limited(path, MAX_LOCK))
        if not (isinstance(holder["pid"], int) and isinstance(holder["token"], str)):
            raise TypeError("pid or token of another type")
        silence = _silence(path)
        here = holder["host"] == socket.gethostname()
        live = silence < SILENCE and (not here or _alive(holder))
        return {**holder, "live": live, "silent_seconds": round(silence, 1)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # Torn by a foreign hand: nobody can be asked, so only its age tells.
        with suppress(OSError):
            return {"pid": None, "host": "?", "token": "", "live": _silence(path) < SILENCE}
        return None


def read(run: Location) -> dict[str, Any] | None:
    """Returns who holds the run folder, with "live": bool; None where nobody does."""
    return _holder(run / NAME)


def joined(run: Location) -> list[dict[str, Any]]:
    """Returns the drivers that joined, with "live": bool each."""
    with suppress(OSError):
        # <token>.progress.json lies beside <token>.json.
        names: list[Location] = [*(run / DRIVERS).glob("*.json")]
        paths = [path for path in sorted(names, key=str) if "." not in path.stem]
        found = [(path, _holder(path)) for path in paths]
        # The file's name is the token: what a file says of itself names no other file.
        return [{**holder, "token": path.stem} for path, holder in found if holder is not None]
    return []


def sweep(run: Location) -> None:
    """Removes the files of drivers that joined and died."""
    for holder in joined(run):
        if not holder["live"]:
            _leave(run / DRIVERS / f"{holder['token']}.json")


def live_tokens(run: Location) -> set[str]:
    """Returns the tokens of all living drivers."""
    holders = [read(run) or {}, *joined(run)]
    return {str(holder["token"]) for holder in holders if holder.get("live")}


def holds(run: Location, token: str) -> bool:
    """Returns whether the run folder exists and a driver with this token is registered in it."""
    mine = _holder(run / NAME) or {}
    return mine.get("token") == token or (run / DRIVERS / f"{token}.json").is_file()


def _refuse(run: Location, holder: dict[str, Any]) -> None:
    message = (
        f"{run} is in use by another run: pid {holder['pid']} on host {holder['host']}, since"
        f" {holder.get('since', '?')}. Wait for it or stop it; `sia-gen status {run}` shows it,"
        " --join shares its work"
    )
    raise LockedError(message)


def _take_over(run: Location, stale: dict[str, Any]) -> None:
    """Removes a dead lock, unless someone else was faster."""
    path = run / NAME
    if isinstance(path, ObjectPath):
        # Stores cannot rename: look once more, and remove. The gap is short, and the lock courtesy.
        if (_holder(path) or {}).get("token") == stale["token"]:
            path.unlink(missing_ok=True)
        return
    aside = path.with_name(f"{TEMPORARY_PREFIX}{NAME}-stale-{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    moved = (_holder(aside) or {}).get("token")
    if moved != stale["token"]:  # a new lock, taken between our look and our rename: give it back
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _acquire(run: Location, content: bytes) -> Location:
    """Takes lock.json and returns its path; LockedError names who has it, or who joined."""
    for _ in range(5):
        if create_bytes(run / NAME, content, durable=False):
            break
        holder = read(run)
        if holder is not None and holder["live"]:
            _refuse(run, holder)
        if holder is not None:
            _take_over(run, holder)
    else:
        raise LockedError(f"{run} is being taken by other runs at this moment: try again")
    for holder in joined(run):
        if holder["live"]:
            (run / NAME).unlink(missing_ok=True)
            _refuse(run, holder)
    return run / NAME


def _join(run: Location, token: str, content: bytes) -> Location:
    """Registers beside whoever is at work and returns the path of the registration."""
    path = run / DRIVERS / f"{token}.json"
    if not create_bytes(path, content, durable=False):
        raise LockedError(f"{path} is taken: try again")
    return path


def _touch(path: Location, content: bytes) -> None:
    if isinstance(path, ObjectPath):
        path.replace_content(content)
    else:
        os.utime(path)


def _leave(path: Location) -> None:
    path.with_suffix(".progress.json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    if isinstance(path, Path) and path.parent.name == DRIVERS:
        with suppress(OSError):
            path.parent.rmdir()


@contextmanager
def hold(run: Location, *, join: bool = False) -> Iterator[str]:
    """Holds a run folder and yields the token; LockedError names the one who has it.

    With `join` others may be at work too, and may join later; shards are then shared by claims.
    """
    token = secrets.token_hex(8)
    facts = {
        "pid": os.getpid(),
        "process_start": _process_start(os.getpid()),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": token,
        "joined": join,
    }
    content = json.dumps(facts).encode()
    path = _join(run, token, content) if join else _acquire(run, content)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT):
            with suppress(OSError):
                if (_holder(path) or {}).get("token") == token:
                    _touch(path, content)

    thread = threading.Thread(target=beat, name="lock heartbeat", daemon=True)
    thread.start()
    try:
        yield token
    finally:
        ended.set()
        thread.join(timeout=1.0)
        with suppress(OSError):
            if (_holder(path) or {}).get("token") == token:
                _leave(path)
