"""Child processes of long runs: they die with their parent, and their logs say why they ended."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.store.documents import parse_json, read_limited

MODULES = {"sia-gen": "sia_gen.cli", "detector": "detector.cli", "harness": "harness.cli"}
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended: its exit code (below 0: a signal) and whether it ran out of time."""

    code: int
    expired: bool = False


def program_of(command: Sequence[str]) -> list[str]:
    """Returns a command line of this project as a program of this very Python."""
    return [sys.executable, "-m", MODULES[command[0]], *command[1:]]


def _die_with_parent() -> None:
    """Asks the kernel to kill this child when its parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(program: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Starts a program that dies with its parent and reads nothing; options are Popen's."""
    # Only the thread that started a child keeps it alive; elsewhere the kernel would kill it early.
    main = threading.current_thread() is threading.main_thread()
    return subprocess.Popen(
        program,
        stdin=subprocess.DEVNULL,
        text=True,
        preexec_fn=_die_with_parent if main else None,
        **options,
    )


def finish(process: subprocess.Popen[str], seconds: float | None = None) -> Ended:
    """Waits for a process and returns how it ended; one that takes longer is killed."""
    expired = False
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        expired = True
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return Ended(code=process.returncode, expired=expired)


def reason(log: Path, ended: Ended) -> str:
    """Returns why a process ended, in one line: its last error, or the last that it said."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = [last for line in lines if (last := line.rpartition("\r")[2]).strip()]
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    last = " ".join((errors or said or ["said nothing"])[-1].split())[:400]
    if ended.code < 0:
        known = -ended.code in set(signal.Signals)
        name = signal.Signals(-ended.code).name if known else f"signal {-ended.code}"
        return f"killed by {name} after saying: {last}"
    return f"{last} (exit code {ended.code})"


def state_of(path: Path) -> dict[str, Any]:
    """Returns a state file's content, or {} where there is none or only a torn one."""
    try:
        value = parse_json(read_limited(path))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
