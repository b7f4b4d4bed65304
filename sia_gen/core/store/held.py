"""A folder on this machine that one process works in at a time."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sia_gen.core.errors import LockedError, UserError
from sia_gen.core.store.files import TEMPORARY_PREFIX

NAME = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder, made if need be, and removes what killed processes left half-written in it.

    LockedError while another process has it; the system frees the holds of the dead.
    """
    import filelock

    holder = folder / f"{NAME}.holder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / NAME, blocking=False)
        lock.acquire()
        holder.write_text(f"pid {os.getpid()} on {platform.node()}", encoding="utf-8")
    except filelock.Timeout as error:
        by = holder.read_text(encoding="utf-8") if holder.is_file() else "unknown"
        raise LockedError(
            f"{folder} is in use by another run ({by}): wait for it, or stop it"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write to {folder}: {reason}") from error
    try:
        for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
            discard(leftover)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def discard(path: Path) -> None:
    """Removes a file or a folder, as far as it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
