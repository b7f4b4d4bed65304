"""Shards of pairs: a tar with image, mask and provenance of each, and a record beside it.

Members: <key>.json, <key>.png, <key>.mask.png and, if asked for, <key>.normal.png. Names and
records follow the shards of synthetic images (shards.py), whose reader finds the images.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, decode, encode_png
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store.documents import parse_json
from sia_gen.core.store.files import write_bytes
from sia_gen.core.store.tars import Member, members

MASK, NORMAL = ".mask.png", ".normal.png"


@dataclass(frozen=True, kw_only=True)
class PairSample:
    """One pair under its key, with its provenance: same names and types in every sample."""

    key: str
    pair: Pair
    metadata: dict[str, Any]


def _pixels(array: np.ndarray[Any, Any]) -> str:
    return sha256_bytes(np.ascontiguousarray(array).tobytes())


def write_pairs(path: Path, samples: Iterable[PairSample], *, normal: bool) -> dict[str, Any]:
    """Publishes pairs as a tar; returns its facts: images, bytes, sha256, md5, samples.

    The bytes depend on the samples alone: no time, no owner, no host enters the tar.
    """
    buffer = io.BytesIO()
    listed: list[dict[str, Any]] = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            mask = sample.pair.mask.astype(np.uint8) * 255
            metadata = {
                **sample.metadata,
                "pixels_sha256": _pixels(sample.pair.image),
                "mask_sha256": _pixels(mask),
            }
            members = [
                (".json", json.dumps(metadata, sort_keys=True, allow_nan=False).encode()),
                (".png", encode_png(sample.pair.image)),
                (MASK, encode_png(mask)),
            ]
            if normal:
                members.append((NORMAL, encode_png(sample.pair.normal)))
            for suffix, content in members:
                member = tarfile.TarInfo(sample.key + suffix)
                member.size, member.mode = len(content), 0o644
                tar.addfile(member, io.BytesIO(content))
            listed.append({"key": sample.key, **metadata})
    content = buffer.getvalue()
    write_bytes(path, content)
    facts = {"images": len(listed), "bytes": len(content), "sha256": sha256_bytes(content)}
    # wids' index files name a shard's MD5; it is no protection, only their format.
    facts["md5"] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {**facts, "samples": listed}


def read_pairs(path: Path) -> Iterator[tuple[str, Array8, Array8, dict[str, Any]]]:
    """Yields (key, image uint8 (H, W, 3), mask uint8 0 or 255 (H, W), metadata) of a tar."""
    parts: dict[str, dict[str, Member]] = {}
    for member in members(path):
        key, _, suffix = member.name.partition(".")
        parts.setdefault(key, {})[suffix] = member
    with path.open("rb") as file:
        for key, found in parts.items():
            try:
                image = decode(_read(file, found["png"]), f"{path}:{key}.png")
                mask = decode(_read(file, found["mask.png"]), f"{path}:{key}.mask.png")[..., 0]
                metadata = parse_json(_read(file, found["json"]))
            except (KeyError, ValueError) as error:
                raise UserError(f"{path}: pair {key!r} is not whole: {error}") from error
            yield key, image, mask, metadata


def _read(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)
