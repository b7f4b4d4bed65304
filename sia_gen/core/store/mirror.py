"""Local copies of objects: what is read again and again, or by libraries that read only files."""

from __future__ import annotations

from pathlib import Path

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store import hub
from sia_gen.core.store.files import cache_folder, write_copy
from sia_gen.core.store.objects import Location
from sia_gen.core.store.paths import inside


def _cache() -> Path:
    return cache_folder() / "objects"


def local_copy(path: Location) -> Path:
    """Returns a local file with the content of path: itself, or a copy in the cache.

    The copy is keyed by address, size and time of change, so that a changed object is fetched anew.
    """
    if isinstance(path, Path):
        return path
    if path.scheme == hub.SCHEME:
        return hub.snapshot(str(path.key))
    try:
        facts = path.stat()
        key = sha256_bytes(f"{path} {facts.st_size} {facts.st_mtime}".encode())[:32]
        target = inside(_cache() / key, path.name, str(path))
        if not target.is_file() or target.stat().st_size != facts.st_size:
            write_copy(target, path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return target


def local_folder(folder: Location) -> Path:
    """Returns a local folder with everything below folder: itself, or a copy in the cache.

    Only what changed in size since the last copy is fetched, and what went away is dropped.
    """
    if isinstance(folder, Path):
        return folder
    if folder.scheme == hub.SCHEME:
        return hub.snapshot(str(folder.key))
    home = _cache() / sha256_bytes(str(folder).encode())[:32]
    target = inside(home, folder.name, str(folder))
    try:
        wanted = {
            inside(target, str(path.relative_to(folder)), f"{folder}"): path
            for path in folder.rglob("*")
        }
        if not wanted:
            raise UserError(f"{folder} holds nothing: mend the address")
        for local, remote in wanted.items():
            facts = remote.stat()
            if local.is_file():
                have = local.stat()
                if have.st_size == facts.st_size and have.st_mtime >= facts.st_mtime:
                    continue
            write_copy(local, remote)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}") from error
    for local in target.rglob("*"):
        # Others may be copying at this moment: what they have half done is theirs.
        if local.is_file() and local not in wanted and not local.name.startswith(".tmp-"):
            local.unlink(missing_ok=True)
    return target
