"""Places where runs live: a local path, or a prefix in an object store that fsspec reaches.

`ObjectPath` speaks the part of pathlib.Path that shards and run folders need, so that one code
serves both. An object appears whole or not at all, and `create` is one conditional PUT: of many
writers exactly one wins. Stores have no folders: a folder is there when an object is below it.
"""

from __future__ import annotations

import fnmatch
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from sia_gen.core.errors import UserError

T = TypeVar("T")

# Schemes that are known. `http:` and `pipe:` of other loaders are refused: shards are data.
SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "memory": "memory",
    "hf": "hf",
}
READ_ONLY = {"hf": "make it in a folder, then `sia-gen push` it"}
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
BLOCK = 16 * 2**20  # bytes of a request, where an object is read piece by piece
ATTEMPTS = 2  # of an operation; the clients below try each several times themselves
PAUSE = 1.0  # seconds
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError)


class StoreError(OSError, UserError):
    """A store could not be reached or answered with a fault: nothing is known of its objects.

    It is never taken for a missing object: what cannot be seen must not be made again or dropped.
    """


@dataclass(frozen=True)
class Stat:
    """Size in bytes and time of the last change, as os.stat names them."""

    st_size: int
    st_mtime: float


@total_ordering
class ObjectPath:
    """A key, or the common beginning of keys, in an object store."""

    def __init__(self, scheme: str, key: PurePosixPath) -> None:
        self.scheme, self.key = scheme, key

    def __str__(self) -> str:
        return f"{self.scheme}://{str(self.key).lstrip('/')}"

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __lt__(self, other: ObjectPath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.scheme, self.key / name)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self.key.stem

    @property
    def suffix(self) -> str:
        """The suffix, with its dot."""
        return self.key.suffix

    @property
    def parent(self) -> ObjectPath:
        """What the object lies in."""
        return ObjectPath(self.scheme, self.key.parent)

    def with_suffix(self, suffix: str) -> ObjectPath:
        """Returns the path with another suffix."""
        return ObjectPath(self.scheme, self.key.with_suffix(suffix))

    def relative_to(self, other: ObjectPath) -> PurePosixPath:
        """Returns the rest of the key below another."""
        return self.key.relative_to(other.key)

    def is_relative_to(self, other: ObjectPath) -> bool:
        """Returns whether the key lies below another."""
        return self.scheme == other.scheme and self.key.is_relative_to(other.key)

    def is_file(self) -> bool:
        """Returns whether there is an object of this key."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Returns whether there is an object below this key."""
        return next(self._find(), None) is not None

    def exists(self) -> bool:
        """Returns whether there is an object of this key, or below it."""
        return self.is_file() or self.is_dir()

    def mkdir(self, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Does nothing: folders come with their objects."""
        del parents, exist_ok

    def stat(self) -> Stat:
        """Returns size and time of change; FileNotFoundError where there is no object."""
        info = self._call(lambda fs: fs.info(str(self.key)))
        if info.get("type") == "directory":
            raise FileNotFoundError(str(self))
        changed = info.get("LastModified") or info.get("mtime") or info.get("created")
        stamp = changed.timestamp() if hasattr(changed, "timestamp") else float(changed or 0)
        return Stat(int(info.get("size") or 0), stamp)

    def read_bytes(self, limit: int | None = None) -> bytes:
        """Returns the object's content, or its first `limit` bytes."""
        if limit is None:
            return bytes(self._call(lambda fs: fs.cat_file(str(self.key))))
        try:
            return self.read_range(0, limit)
        except StoreError:
            if self.stat().st_size == 0:  # which has no range
                return b""
            raise

    def read_range(self, offset: int, size: int) -> bytes:
        """Returns a part of the object's content."""
        key = str(self.key)
        return bytes(self._call(lambda fs: fs.cat_file(key, start=offset, end=offset + size)))

    def blocks(self) -> Iterator[bytes]:
        """Yields the object's content piece by piece: it may be larger than the memory."""
        size = self.stat().st_size
        for offset in range(0, size, BLOCK):
            block = self.read_range(offset, min(BLOCK, size - offset))
            if len(block) != min(BLOCK, size - offset):
                raise StoreError(f"{self} was changed while it was read")
            yield block

    def read_text(self, encoding: str = "utf-8") -> str:
        """Returns the object's content as text."""
        return self.read_bytes().decode(encoding)

    def replace_content(self, content: bytes) -> None:
        """Puts the object, whatever is there."""
        require_writable(self)
        self._call(lambda fs: fs.pipe_file(str(self.key), content))

    def create(self, content: bytes) -> bool:
        """Puts the object where there is none; False where there is another: the first writer wins.

        A PUT whose answer was lost is sent again, by the clients below or here, and then finds its
        own object: the same content counts as written.
        """

        require_writable(self)

        def put(fs: Any) -> None:
            try:
                fs.pipe_file(str(self.key), content, mode="create")
            except OSError as error:
                if _is_refused(error):
                    raise FileExistsError(str(self)) from error
                raise

        try:
            self._call(put)
        except FileExistsError:
            return self._holds(content)
        return True

    def _holds(self, content: bytes) -> bool:
        """Returns whether the object is there with this content."""
        try:
            return self.stat().st_size == len(content) and self.read_bytes() == content
        except FileNotFoundError:
            return False

    def now(self) -> float:
        """Returns the store's own time, in seconds: that of an object which is written for it."""
        probe = self / f".tmp-time-{secrets.token_hex(8)}"
        probe.replace_content(b"")
        found = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
        return found

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            self._call(lambda fs: fs.rm_file(str(self.key)))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yields what lies directly in here, folders with it."""
        names = {path.relative_to(self).parts[0] for path in self._find()}
        return (self / name for name in sorted(names))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Yields the objects directly in here whose name matches."""
        return (p for p in self.rglob(pattern) if p.parent == self)

    def rglob(self, pattern: str) -> Iterator[ObjectPath]:
        """Yields the objects below whose name matches."""
        return (p for p in self._find() if fnmatch.fnmatchcase(p.name, pattern))

    def _find(self) -> Iterator[ObjectPath]:
        try:
            found = self._call(lambda fs: fs.find(str(self.key)))
        except FileNotFoundError:
            found = []
        paths = (ObjectPath(self.scheme, PurePosixPath(key)) for key in sorted(found))
        return (path for path in paths if path != self)

    def _call(self, operation: Callable[[Any], T]) -> T:
        """Does an operation, again after a pause where the network failed it."""
        fs = filesystem(self.scheme)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return operation(fs)
            except FINAL:
                raise
            # Clients of stores raise classes of their own; only their text is common.
            except Exception as error:
                if attempt >= ATTEMPTS or "redentials" in str(error):
                    said = f"{type(error).__name__}: {error}"
                    raise StoreError(f"{self} cannot be reached: {said}") from error
                time.sleep(PAUSE)
        raise AssertionError("unreachable")


def _is_refused(error: OSError) -> bool:
    """Returns whether a store answered 412: s3fs knows it only where the answer names the condition
    that failed, which not every store does."""
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == 412 or response.get("Error", {}).get("Code") == "PreconditionFailed"


Location = Path | ObjectPath


def filesystem(scheme: str) -> Any:
    """Returns fsspec's file system of a scheme, without its cache of listings."""
    import fsspec

    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(scheme, scheme)
        hint = ", or pip install '.[s3]' in a checkout" if scheme == "s3" else ""
        raise UserError(f"{scheme}:// needs the package {package}: install it{hint}") from error


def is_url(text: str) -> bool:
    """Returns whether a text names a place by a scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|pipe:", text) is not None


def require_local(place: str | Path, what: str) -> Path:
    """Returns a local path; UserError for an address where a command takes paths only.

    A path made of `s3://bucket` has lost a slash: it is known by its first part.
    """
    text = str(place)
    if is_url(text) or (isinstance(place, Path) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text)):
        address = text if "://" in text else text.replace(":/", "://", 1)
        raise UserError(
            f"{what} {address}: this command takes files and folders only, no address; give a local"
            " path, and copy to the store yourself"
        )
    return Path(place)


def locate(text: str) -> Location:
    """Returns the place that a text names: a path, or `s3://bucket/prefix`; UserError otherwise."""
    if not is_url(text):
        return Path(text)
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "file":
        return Path("/" + rest.lstrip("/"))
    if scheme.lower() not in SCHEMES or not rest.startswith("//"):
        known = ", ".join(f"{name}://" for name in ("file", "s3", "gs", "az", "hf"))
        raise UserError(f"{text!r}: the scheme {scheme!r} is refused; give a folder, or {known}")
    parts = [part for part in rest.strip("/").split("/") if part]
    if len(parts) < 2 or any(part in {".", ".."} for part in parts):
        raise UserError(f"{text!r}: expected {scheme}://BUCKET/PREFIX, without . and ..")
    scheme = SCHEMES[scheme.lower()]
    root = "/" if scheme == "memory" else ""
    return ObjectPath(scheme, PurePosixPath(root + "/".join(parts)))


def require_writable(place: Location) -> None:
    """Raises UserError for a place in a store that is only read."""
    if isinstance(place, ObjectPath) and place.scheme in READ_ONLY:
        raise UserError(f"{place} can only be read: {READ_ONLY[place.scheme]}")


def require_conditional_put(folder: ObjectPath) -> None:
    """Raises UserError where the store cannot be written to, or lets a second writer win.

    Some stores and proxies ignore If-None-Match; two drivers would then overwrite each other.
    """
    probe = folder / f".tmp-probe-{secrets.token_hex(8)}"
    try:
        first, second = probe.create(b"1"), probe.create(b"2")
        content = probe.read_bytes()
        probe.unlink(missing_ok=True)
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{folder} cannot be written to: {error}") from error
    if not first or second or content != b"1":
        message = (
            f"{folder}: the store ignores conditional PUT (If-None-Match): two writers would"
            " overwrite each other; use a store that knows it, or a folder"
        )
        raise UserError(message)
