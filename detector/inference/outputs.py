"""Where `detector predict` writes: the names of its table and of each image's files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sia_gen.core.errors import UserError
from sia_gen.core.store.files import write_bytes

TABLE = "predictions.csv"
DOCUMENT = "predictions.json"
PICTURES = ("overlays", "steps", "maps", "masks")  # folders of pictures beside the table
NAME_BYTES, PATH_BYTES = 255, 4000  # what file systems and the system's calls take


def is_output(folder: Path) -> bool:
    """Returns whether a folder holds the pictures of an earlier prediction."""
    return folder.name in PICTURES and (folder.parent / TABLE).is_file()


def picture_path(folder: Path, name: str, suffix: str = ".png") -> Path:
    """Returns where the picture of an image lies: the image's whole name, and a suffix.

    A name that would be too long is cut and ends in a hash of the whole, so that it stays one
    image's own.
    """
    whole = folder / f"{name}{suffix}"
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    if len(os.fsencode(whole)) > PATH_BYTES:
        return folder / f"{digest}{suffix}"
    if len(os.fsencode(whole.name)) <= NAME_BYTES:
        return whole
    room = NAME_BYTES - len(os.fsencode(f"-{digest}{suffix}"))
    kept = os.fsencode(whole.name)[:room].decode("utf-8", "ignore")
    return whole.with_name(f"{kept}-{digest}{suffix}")


def write_picture(folder: Path, name: str, content: bytes, suffix: str = ".png") -> Path:
    """Writes the picture of an image, or another file of it, and returns its path.

    Where the file system does not take the image's name, the picture is named by the name's hash.
    """
    path = picture_path(folder, name, suffix)
    try:
        write_bytes(path, content)
    except UserError:
        path = folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{suffix}"
        write_bytes(path, content)
    return path
