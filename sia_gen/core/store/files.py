"""Atomic files: a reader sees the old content, the new content or nothing, never a half."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.store.documents import parse_json, read_limited
from sia_gen.core.store.objects import Location, ObjectPath, StoreError

TEMPORARY_PREFIX = ".tmp-"
# What file systems without hard links answer (FAT, some network and FUSE mounts).
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def _beside(path: Path) -> Path:
    """Returns a temporary name in the folder of path; a long name is cut to what fits in 255."""
    name = path.name
    while len(os.fsencode(name)) > 200:
        name = name[:-1]
    return path.parent / f"{TEMPORARY_PREFIX}{name}-{os.getpid()}-{secrets.token_hex(4)}"


def _temporary(path: Path, content: bytes | Iterable[bytes], *, durable: bool) -> Path:
    temporary = _beside(path)
    try:
        for again in range(3, -1, -1):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = temporary.open("wb")
                break
            except FileNotFoundError:  # whoever was the last in this folder removed it just now
                if not again:
                    raise
        with file:
            for block in (content,) if isinstance(content, bytes) else content:
                file.write(block)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return temporary


def write_bytes(path: Location, content: bytes) -> None:
    """Publishes content under path in one step, durable before it is visible; the last one wins."""
    try:
        if isinstance(path, ObjectPath):
            path.replace_content(content)
            return
        temporary = _temporary(path, content, durable=True)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def write_copy(path: Path, source: ObjectPath) -> None:
    """Publishes an object's content as a file in one step; no more than a block is in memory."""
    try:
        temporary = _temporary(path, source.blocks(), durable=True)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (StoreError, FileNotFoundError):
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def create_bytes(path: Location, content: bytes, *, durable: bool = True) -> bool:
    """Publishes content in one step where there is nothing yet; False where the name is taken.

    Of many writers exactly one wins: a hard link, or a conditional PUT.
    """
    try:
        if isinstance(path, ObjectPath):
            return path.create(content)
        temporary = _temporary(path, content, durable=durable)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # Without links the name is taken first and filled by the rename after it.
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                return False
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return True


def to_json(value: Any) -> bytes:
    """Returns value as indented JSON with a newline at its end; NaN and infinities are refused."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_json(path: Location, value: Any) -> None:
    """Publishes value as indented JSON; NaN and infinities are refused."""
    write_bytes(path, to_json(value))


def read_json(path: Location) -> Any:
    """Returns the JSON content of a file, or raises UserError naming the file and the fault."""
    try:
        return parse_json(read_limited(path))
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON: {error}") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that replaces `path` when the block ends without an exception."""
    temporary = _beside(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            old = path.parent / f"{TEMPORARY_PREFIX}old-{path.name}-{secrets.token_hex(4)}"
            path.rename(old)
            temporary.rename(path)
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
        else:
            temporary.rename(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_there(place: str) -> bool:
    """Returns whether a text names something that exists; a text that no path can be does not."""
    try:
        return bool(place) and Path(place).exists()
    except (OSError, ValueError):  # too long a name, a NUL
        return False


def cache_folder() -> Path:
    """Returns the folder for generated data: $SIA_GEN_CACHE, or ~/.cache/sia-gen."""
    configured = os.environ.get("SIA_GEN_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "sia-gen"
