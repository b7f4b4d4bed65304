"""One run at a time in a folder: lock.json names who holds it, and is touched while they live.

Locks of file systems are unreliable on networks, so this one is courtesy with a name on it: pid,
host and a heartbeat. A lock whose process is dead on this host, or silent for minutes on another,
is taken over. Correctness never rests on it: shards are published atomically and byte-equal.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sia_gen.core.errors import LockedError, UserError
from sia_gen.core.files import TEMPORARY_PREFIX

NAME = "lock.json"
HEARTBEAT = 10.0  # seconds
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


def read(run: Path) -> dict[str, Any] | None:
    """Returns who holds the run folder, with "live": bool; None where nobody does."""
    path = run / NAME
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        silence = time.time() - path.stat().st_mtime
        here = holder["host"] == socket.gethostname()
        live = _alive(holder) if here else silence < SILENCE
        return {**holder, "live": live, "silent_seconds": round(silence, 1)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # Torn by a foreign hand: nobody can be asked, so only its age tells.
        with suppress(OSError):
            silence = time.time() - path.stat().st_mtime
            return {"pid": None, "host": "?", "token": "", "live": silence < SILENCE}
        return None


def holds(run: Path, token: str) -> bool:
    """Returns whether the run folder exists and is held under this token."""
    return (read(run) or {}).get("token") == token


def _refuse(run: Path, holder: dict[str, Any]) -> None:
    message = (
        f"{run} is in use by another run: pid {holder['pid']} on host {holder['host']}, since"
        f" {holder.get('since', '?')}. Wait for it or stop it; `sia-gen status {run}` shows it"
    )
    raise LockedError(message)


def _publish(run: Path, content: dict[str, Any]) -> bool:
    """Creates the lock with its content in one step; False where there is one already."""
    temporary = run / f"{TEMPORARY_PREFIX}{NAME}-{content['token']}"
    temporary.write_text(json.dumps(content), encoding="utf-8")
    try:
        os.link(temporary, run / NAME)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _take_over(run: Path, stale: dict[str, Any]) -> None:
    """Removes a dead lock, unless someone else was faster."""
    aside = run / f"{TEMPORARY_PREFIX}{NAME}-stale-{secrets.token_hex(4)}"
    try:
        (run / NAME).rename(aside)
    except FileNotFoundError:
        return
    try:
        moved = json.loads(aside.read_text(encoding="utf-8")).get("token")
    except (OSError, ValueError, AttributeError):
        moved = ""
    if moved != stale["token"]:  # a new lock, taken between our look and our rename: give it back
        with suppress(FileExistsError):
            os.link(aside, run / NAME)
    aside.unlink(missing_ok=True)


@contextmanager
def hold(run: Path) -> Iterator[str]:
    """Holds a run folder and yields the token; LockedError names the one who has it."""
    token = secrets.token_hex(8)
    content = {
        "pid": os.getpid(),
        "process_start": _process_start(os.getpid()),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": token,
    }
    try:
        for _ in range(5):
            if _publish(run, content):
                break
            holder = read(run)
            if holder is not None and holder["live"]:
                _refuse(run, holder)
            if holder is not None:
                _take_over(run, holder)
        else:
            raise LockedError(f"{run} is being taken by other runs at this moment: try again")
    except OSError as error:
        raise UserError(f"cannot write to {run}: {error.strerror or error}") from error
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT):
            with suppress(OSError):
                if (read(run) or {}).get("token") == token:
                    os.utime(run / NAME)

    thread = threading.Thread(target=beat, name="lock heartbeat", daemon=True)
    thread.start()
    try:
        yield token
    finally:
        ended.set()
        thread.join(timeout=1.0)
        with suppress(OSError):
            if (read(run) or {}).get("token") == token:
                (run / NAME).unlink()
