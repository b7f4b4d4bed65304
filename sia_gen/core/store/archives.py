"""Arrays and archives that somebody else may have written: what they claim is checked before it is
read, so that a small file cannot fill the memory.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from sia_gen.core.errors import UserError
from sia_gen.core.store.foreign import NOT_ZIP

MAX_RATIO = 20  # bytes unpacked for a byte stored
SMALL = 256 * 2**20  # bytes that any archive may unpack to
MAX_ENTRIES = 200_000
_END = b"PK\x05\x06"  # a zip's last record: its directory's size is in it


def _entries(file: BinaryIO, size: int) -> int:
    """Returns how many entries a zip's end claims."""
    file.seek(max(0, size - 65_557))
    tail = file.read()
    place = tail.rfind(_END)
    if place < 0 or place + 22 > len(tail):
        return 0
    entries, _, _, _ = struct.unpack_from("<HIIH", tail, place + 10)
    if entries < 0xFFFF:
        return int(entries)
    # zip64: the locator before the end leads to a record with the true number.
    locator = tail.rfind(b"PK\x06\x07", 0, place)
    if locator < 0:
        return int(entries)
    (offset,) = struct.unpack_from("<Q", tail, locator + 8)
    if offset + 56 > size:
        return MAX_ENTRIES + 1
    file.seek(offset + 32)
    return int(struct.unpack("<Q", file.read(8))[0])


def check_zip(path: Path) -> None:
    """Raises UserError where a zip file unpacks to far more than it is; others pass."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) not in {b"PK\x03\x04", _END}:
                return
            if _entries(file, size) > MAX_ENTRIES:
                raise UserError(f"{path} names more than {MAX_ENTRIES} entries: refused")
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except UserError:
        raise
    except (*NOT_ZIP, struct.error) as error:
        raise UserError(f"{path} is no whole zip file: {error}") from error
    if unpacked > max(SMALL, MAX_RATIO * size):
        message = f"{path} has {size} bytes and claims to unpack to {unpacked}: refused"
        raise UserError(message)


def check_tensors(tensors: dict[str, Any], where: str) -> None:
    """Raises UserError where one of torch's tensors claims more elements than its file holds."""
    for name, value in tensors.items():
        held = value.untyped_storage().nbytes()
        if value.numel() * value.element_size() > held:
            message = (
                f"{where}: {str(name)[:200]!r} claims {tuple(value.shape)}, {held} bytes are there"
            )
            raise UserError(message)


def _check_header(file: Any, size: int, where: str) -> None:
    """Raises UserError where an .npy header claims objects, or more than the `size` bytes there."""
    try:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version, np.lib.format.read_array_header_2_0)
        shape, _, dtype = header(file)
        claimed = math.prod(shape) * dtype.itemsize
        plain = not dtype.hasobject and all(side >= 0 for side in shape)
    # numpy evaluates the header as Python's literal: whatever that raises.
    except Exception as error:
        raise UserError(
            f"{where} cannot be read: it is no .npy array: {' '.join(str(error).split())}"
        ) from error
    if not plain or claimed > size:
        raise UserError(
            f"{where} cannot be read: it claims {shape} of {dtype}, {size} bytes are there"
        )


def read_npy(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Returns the array of an .npy file, memory-mapped if asked for; UserError where it lies."""
    mode: Literal["r"] | None = "r" if mapped else None
    try:
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size, str(path))
        found: npt.NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return found


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of an .npz file by name; UserError where it is no such file, or lies."""
    check_zip(path)
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                where = f"{path}: {entry.filename[:200]!r}"
                with archive.open(entry) as file:
                    _check_header(file, entry.file_size, where)
                with archive.open(entry) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                found[entry.filename.removesuffix(".npy")] = array
    # An entry may be encrypted, packed by a method that is not here, or damaged anywhere.
    except (*NOT_ZIP, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except (zlib.error, struct.error, OverflowError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return found
