"""Tars of samples, built in memory: the bytes depend on the samples alone.

No time, owner or host enters a tar. Members of a sample are adjacent, its JSON first. Whoever wrote
a tar, `members` reads it: plain files of harmless names, in bounded memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.decoding import MAX_PIXELS
from sia_gen.core.pixels.encoding import ENCODINGS, Encoding
from sia_gen.core.pixels.images import Array8, decode
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store.paths import relative_name

GZIP = b"\x1f\x8b"
MAX_MEMBERS = 2_000_000
MAX_MEMBER = 4 * MAX_PIXELS  # bytes
# What tarfile raises on bytes that are no tar; among them what it does not catch itself.
UNREADABLE = (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, LookupError)


@dataclass(frozen=True, slots=True)
class Member:
    """A plain file in a tar: its name, and where its content lies."""

    name: str
    offset: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """Yields the members of an uncompressed tar in their order; UserError names what is no plain
    file inside it, what is cut off, and what is no tar. Nothing is held but the one at hand.
    """
    try:
        length = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            count = 0
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                count += 1
                yield _checked_member(path, member, length)
                if count == MAX_MEMBERS:
                    raise UserError(f"{path} holds more than {MAX_MEMBERS} members: refused")
    except UserError:
        raise
    except (*UNREADABLE, RecursionError) as error:
        what: object = error
        if isinstance(error, tarfile.ReadError) and _starts(path) == GZIP:
            what = "it is compressed: give --stream, or gunzip it"
        raise UserError(f"{path} is not a readable uncompressed tar: {what}") from error


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(GZIP))


def _checked_member(path: Path, member: tarfile.TarInfo, length: int) -> Member:
    plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse()
    try:
        if not plain:
            raise UserError("it is a link, a folder, a device or sparse")
        relative_name(member.name, "it")
    except UserError as error:
        message = f"{path}: member {member.name!r} is no plain file inside the shard ({error})"
        raise UserError(message) from error
    if not 0 <= member.size <= MAX_MEMBER:
        raise UserError(f"{path}: member {member.name!r} claims {member.size} bytes: refused")
    if member.offset_data + member.size > length:
        raise UserError(f"{path} is cut off inside {member.name.partition('.')[0]!r}")
    return Member(member.name, member.offset_data, member.size)


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """One synthetic image, uint8 (H, W, 3), with its metadata: one JSON object, same keys and
    types in every sample of a run (Hugging Face infers the columns from the first ones)."""

    key: str
    image: Array8
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tar:
    """A finished tar: its bytes, and its facts (images, bytes, sha256, md5, offsets, samples)."""

    content: bytes
    facts: dict[str, Any]


class _HashedBuffer(io.BytesIO):
    """Memory that is written from its beginning to its end, hashed on the way.

    A tar of 1,000 images takes most of a second to hash: not while its worker waits for the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sha256 = hashlib.sha256()
        # wids' index files name a shard's MD5; it is no protection, only their format.
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        self.md5.update(content)
        return super().write(content)


class TarBuilder:
    """Takes samples one after another and holds only their encoded bytes."""

    def __init__(self, encoding: Encoding = ENCODINGS["png"]) -> None:
        self.encoding = encoding
        self._buffer = _HashedBuffer()
        self._tar = tarfile.open(  # noqa: SIM115 (closed in finish)
            fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT
        )
        self._samples: list[dict[str, Any]] = []
        self._offsets: list[list[int]] = []  # of each image: where it begins, and its size

    def add(self, sample: Synthetic) -> str:
        """Encodes and appends a sample; returns the SHA-256 of the pixels a reader will decode."""
        content = self.encoding.encode(sample.image)
        image = sample.image
        if not self.encoding.lossless:
            image = decode(content, sample.key)
        pixels = sha256_bytes(np.ascontiguousarray(image).tobytes())
        self.add_encoded(sample.key, content, self.encoding.suffix, sample.metadata, pixels)
        return pixels

    def add_encoded(
        self,
        key: str,
        content: bytes,
        suffix: str,
        metadata: dict[str, Any],
        pixels_sha256: str,
        extras: dict[str, bytes] | None = None,
    ) -> None:
        """Appends an image that is encoded already; `extras` follow it, by their suffixes."""
        metadata = {**metadata, "pixels_sha256": pixels_sha256}
        text = json.dumps(metadata, sort_keys=True, allow_nan=False).encode()
        self._member(key + ".json", text)
        self._member(key + suffix, content)
        padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        self._offsets.append([self._buffer.tell() - padded, len(content)])
        for ending, extra in (extras or {}).items():
            self._member(key + ending, extra)
        self._samples.append({"key": key, **metadata})

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        self._tar.addfile(member, io.BytesIO(content))

    def finish(self) -> Tar:
        """Closes the tar and returns it."""
        self._tar.close()
        content = self._buffer.getvalue()
        facts = {
            "images": len(self._samples),
            "bytes": len(content),
            "sha256": self._buffer.sha256.hexdigest(),
            "md5": self._buffer.md5.hexdigest(),
            "offsets": self._offsets,
            "samples": self._samples,
        }
        return Tar(content=content, facts=facts)
