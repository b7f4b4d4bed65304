"""Where a result comes from: hashes of files and options, versions of the code."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from sia_gen import __version__


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
