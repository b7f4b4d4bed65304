"""What a file is that stands in the place of weights: told by its first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

from sia_gen.core.errors import UserError

# What zipfile raises on a damaged file, among them that it knows no such version or packing.
NOT_ZIP = (zipfile.BadZipFile, OSError, ValueError, LookupError, RuntimeError)
HEAD = 512  # bytes that are looked at
_BEGINS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with `git lfs"
     " pull`"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"%PDF", "a PDF document, not weights"),
    (b"\x89PNG", "a PNG picture, not weights"),
    (b"\xff\xd8\xff", "a JPEG picture, not weights"),
    (b"\x89HDF", "an HDF5 file (Keras?): torch or safetensors weights are expected"),
    (b"\x93NUMPY", "a NumPy array: torch or safetensors weights are expected"),
)  # fmt: skip
_TEXTS = (b"<!doctype", b"<html", b"<head", b"<body", b"<script")
_PAGE = "a web page (HTML), as servers send in place of a file that asks for a login or a click"


def what_it_is(path: Path) -> str | None:
    """Returns what a file is and what to do, where it plainly is no weights file; else None."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if not head:
        return "empty: fetch it again"
    for begin, text in _BEGINS:
        if head.startswith(begin):
            return text
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_TEXTS):
        return f"{_PAGE}: fetch it again in a browser"
    if start.startswith((b"<?xml", b"<error")):
        page = b"<html" in head.lower()
        return f"{_PAGE if page else 'an XML answer of a server, not the file'}: fetch it again"
    if head[257:262] == b"ustar" and not _has_pickle_names(path):
        return "a tar archive: unpack it first"
    if head.startswith(b"PK"):
        return _archive(path)
    if start.startswith((b"{", b"[")) and not _is_safetensors(head):
        return "a JSON text, not weights"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head[:200]):
        return f"a text that begins {head[:40].decode('ascii')!r}, not weights"
    return None


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{"


def _has_pickle_names(path: Path) -> bool:
    """Returns whether a tar is torch's first format, which holds a member `pickle`."""
    import tarfile

    try:
        with tarfile.open(path) as archive:
            return any(Path(name).name in {"pickle", "storages"} for name in archive.getnames()[:8])
    except (tarfile.TarError, OSError):
        return False


def _archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except NOT_ZIP:
        return "a zip file (as torch writes) that is cut off: fetch it again"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return None  # torch's format
    few = ", ".join(names[:3])
    return f"a zip archive with {few or 'nothing'} in it: unpack it first"


def require_weights(path: Path, what: str) -> None:
    """Raises UserError for a file that plainly is no weights file and says what it is."""
    if path.is_file() and (found := what_it_is(path)):
        raise UserError(f"{what} {path} is {found}")


def reason(error: BaseException) -> str:
    """Returns why a library could not read a file, in one line, without its advice.

    torch advises to switch the safe reading off, which would run a stranger's code.
    """
    text = " ".join(str(error).split())
    if "weights_only" in text or "add_safe_globals" in text or "UnpicklingError" in text:
        named = text.partition("GLOBAL ")[2].split(" ")[0]
        asks = f" (it asks for {named})" if named else ""
        return f"it is no plain file of tensors{asks}, and no code of a file is ever run"
    return text[:200] or type(error).__name__
