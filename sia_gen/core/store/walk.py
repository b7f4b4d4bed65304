"""One walk for everything that lists files: images, textures, packs and score maps.

It follows links, reads every real folder once (so that no loop of links can hold it up, and no
picture is met twice by two links to one folder), and leaves out hidden folders.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sia_gen.core.errors import UserError

# Left by archives and interpreters; never a dataset's.
LEFT_OUT = ("__MACOSX", "__pycache__")


def is_hidden(name: str) -> bool:
    """Returns whether a folder's name says that nobody means its content: `.git`, `__MACOSX`."""
    return name.startswith(".") or name in LEFT_OUT


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}") from error


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def walk(
    root: Path,
    wanted: Callable[[Path], bool],
    left_out: Callable[[Path], bool] = lambda _: False,
) -> list[Path]:
    """Returns the files below root that are wanted, sorted by their path.

    `left_out` names further folders that are not entered, as a command's own output. A real folder
    goes before a link to it, and a link to a folder above the root leads nowhere. A folder that
    cannot be read is a UserError.
    """
    try:
        above = {_identity(p) for p in (root.resolve(), *root.resolve().parents)}
    except OSError as error:
        raise UserError(f"{root} cannot be read: {error.strerror or error}") from error
    seen: set[tuple[int, int]] = set()
    found: list[Path] = []
    folders: list[Path] = [root]
    links: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            identity = _identity(folder)
        except OSError:
            continue  # a link to what is not there
        if identity in seen or (folder != root and identity in above):
            continue
        seen.add(identity)
        for entry in _listed(folder):
            path = folder / entry.name
            try:
                is_folder = entry.is_dir()
            except OSError:
                continue  # a loop of links
            if not is_folder:
                if wanted(path) and path.is_file():
                    found.append(path)
            elif not is_hidden(entry.name) and not left_out(path):
                (links if entry.is_symlink() else folders).append(path)
    return sorted(found)
