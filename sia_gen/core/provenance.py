"""Where a result comes from: hashes of files and options, versions of the code."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.version import __version__


def sha256_bytes(content: bytes) -> str:
    """Returns the SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file, 64 hex digits, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_options(options: Any) -> str:
    """Returns the SHA-256 of a JSON value in canonical form: key order does not matter."""
    canonical = json.dumps(options, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256_bytes(canonical.encode())


def versions(*packages: str) -> dict[str, str]:
    """Returns the versions of this project, Python and the named installed packages."""
    found = {"sia-gen": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def require_same(
    folder: Path, recorded: Any, asked: Mapping[str, Any], free: Collection[str] = ()
) -> None:
    """Raises UserError, with every difference, where a folder was begun with other options.

    What is `free` may differ.
    """
    old = recorded if isinstance(recorded, dict) else {}
    keys = sorted(k for k in {*old, *asked} - set(free) if old.get(k) != asked.get(k))
    if keys:
        said = "; ".join(f"{k}: {old.get(k)} there, {asked.get(k)} asked" for k in keys)
        raise UserError(
            f"{folder} belongs to a run with other options ({said}): give another --out"
        )
