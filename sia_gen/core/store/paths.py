"""Names from outside -- keys of a bucket, members of a tar, words of a JSON file -- as paths.

Every such name goes through `inside` (a path below a folder) or `checked_name` (one part of it), so
that nothing that somebody else wrote can name a file outside its folder, on any system.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import overload

from sia_gen.core.errors import UserError
from sia_gen.core.store.objects import Location, ObjectPath

MAX_NAME = 4096  # characters, of a whole name
_DRIVE = re.compile(r"[A-Za-z]:")
# Windows opens a device for these, whatever extension follows.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)\s*(\..*)?", re.I | re.S)


def _fault(name: str) -> str | None:
    """Returns what is wrong with a relative name, or None."""
    # A file written here may be read on Windows: a backslash separates there.
    parts = name.replace("\\", "/").split("/")
    if not name or parts == ["."]:
        return "is empty"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    if "\0" in name:
        return "holds a NUL character"
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return "cannot be a file's"
    if parts[0] == "" or _DRIVE.match(name):
        return "is absolute"
    if ".." in parts:
        return "climbs out with '..'"
    if any(_DEVICE.fullmatch(part.rstrip(" .")) for part in parts):
        return "is the name of a device"
    return None


def relative_name(name: object, where: str) -> PurePosixPath:
    """Returns a name from outside as a relative path that stays below; UserError otherwise."""
    if not isinstance(name, str):
        raise UserError(f"{where}: expected a name, found {type(name).__name__}")
    fault = _fault(name)
    if fault is not None:
        raise UserError(f"{where}: the name {name[:200]!r} {fault}: refused")
    return PurePosixPath(name)


def checked_name(name: object, where: str) -> str:
    """Returns a name from outside that is one part of a path; UserError otherwise."""
    text = str(relative_name(name, where))
    if text != name or "/" in text or "\\" in text:
        raise UserError(f"{where}: {str(name)[:200]!r} is a path: expected one name")
    return text


@overload
def inside(root: Path, name: object, where: str = "") -> Path: ...
@overload
def inside(root: ObjectPath, name: object, where: str = "") -> ObjectPath: ...
@overload
def inside(root: Location, name: object, where: str = "") -> Location: ...
def inside(root: Location, name: object, where: str = "") -> Location:
    """Returns root / name; UserError where a name from outside leaves root, also through links."""
    relative = relative_name(name, where or str(root))
    if isinstance(root, ObjectPath):
        return root / str(relative)
    path = root / relative
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{where or root}: {str(name)[:200]!r} cannot be used: {error}") from error
    if not real.is_relative_to(root.resolve()):
        raise UserError(
            f"{where or root}: {str(name)[:200]!r} leads out of {root} by a link: refused"
        )
    return path
