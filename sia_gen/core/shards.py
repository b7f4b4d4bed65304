"""Shards: WebDataset tars of images with a record beside each, the truth about what is done.

    shards/<dataset>/<category>/<category>-00000.tar     members <key>.json, <key>.png
    shards/<dataset>/<category>/<category>-00000.json    the record: written last

A shard is done when its record exists and matches: specification hash, size and SHA-256.
Tars are read by offset and never extracted; links, devices, pickles and foreign paths are refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.errors import UserError
from sia_gen.core.files import read_json, write_bytes, write_json
from sia_gen.core.images import Array8, decode, encode_png
from sia_gen.core.provenance import sha256_bytes, sha256_file

SCHEMA = 1
PNG_LEVEL = 1  # zlib's effort
IMAGE_SUFFIXES = (".png", ".webp", ".jpg")


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """One synthetic image, uint8 (H, W, 3), with its metadata: one JSON object, same keys and
    types in every sample of a run (Hugging Face infers the columns from the first ones)."""

    key: str
    image: Array8
    metadata: dict[str, Any]
    png: bytes | None = None  # the image already encoded, by a worker that overlaps the two


def record_path(tar: Path) -> Path:
    """Returns the path of a shard's record."""
    return tar.with_suffix(".json")


def write_tar(path: Path, samples: Iterable[Synthetic], level: int = PNG_LEVEL) -> dict[str, Any]:
    """Publishes samples as a tar; returns its facts: images, bytes, sha256, md5, per image.

    The bytes depend on the samples alone: no time, no owner, no host enters the tar.
    """
    buffer = io.BytesIO()
    images: list[dict[str, Any]] = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            pixels = sha256_bytes(np.ascontiguousarray(sample.image).tobytes())
            metadata = {**sample.metadata, "pixels_sha256": pixels}
            text = json.dumps(metadata, sort_keys=True, allow_nan=False).encode()
            png = sample.png or encode_png(sample.image, level)
            for suffix, content in ((".json", text), (".png", png)):
                member = tarfile.TarInfo(sample.key + suffix)
                member.size, member.mode = len(content), 0o644
                tar.addfile(member, io.BytesIO(content))
            images.append({"key": sample.key, **metadata})
    content = buffer.getvalue()
    write_bytes(path, content)
    facts = {"images": len(images), "bytes": len(content), "sha256": sha256_bytes(content)}
    # wids' index files name a shard's MD5; it is no protection, only their format.
    facts["md5"] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {**facts, "samples": images}


def write_record(tar: Path, record: dict[str, Any]) -> None:
    """Publishes a shard's record; from now on the shard counts as done."""
    write_json(record_path(tar), {"schema": SCHEMA, "file": tar.name, **record})


def read_record(tar: Path) -> dict[str, Any] | None:
    """Returns a shard's record, or None where there is none or only a torn or foreign one."""
    try:
        record = read_json(record_path(tar))
    except UserError:
        return None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return None
    return record


def is_done(tar: Path, spec_hash: str, *, checksum: bool = False) -> bool:
    """Returns whether a shard is complete and made to this specification."""
    record = read_record(tar)
    if record is None or record.get("spec_hash") != spec_hash or not tar.is_file():
        return False
    if tar.stat().st_size != record.get("bytes"):
        return False
    return not checksum or sha256_file(tar) == record.get("sha256")


@dataclass(frozen=True)
class _Member:
    path: Path
    key: str
    image: tuple[str, int, int]  # suffix, offset, size
    metadata: tuple[int, int] | None


def _scan(path: Path) -> list[_Member]:
    images: dict[str, tuple[str, int, int]] = {}
    metadata: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = member.name
                if not member.isfile() or name.startswith("/") or ".." in Path(name).parts:
                    raise UserError(f"{path}: member {name!r} is no plain file inside the shard")
                key, dot, suffix = name.partition(".")
                if dot + suffix in IMAGE_SUFFIXES:
                    if key in images:
                        raise UserError(f"{path}: key {key!r} occurs twice")
                    images[key] = (dot + suffix, member.offset_data, member.size)
                elif suffix == "json":
                    metadata[key] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path} is not a readable uncompressed tar: {error}") from error
    size = path.stat().st_size
    for key, (_, offset, length) in images.items():
        if offset + length > size:
            raise UserError(f"{path} is cut off inside {key!r}")
    return [_Member(path, k, image, metadata.get(k)) for k, image in images.items()]


class ShardReader:
    """Random access to the images of a set of tars, in the order of paths and members."""

    def __init__(self, tars: Iterable[Path]) -> None:
        self.members = [member for tar in sorted(tars) for member in _scan(tar)]
        if not self.members:
            raise UserError("the shards hold no image")

    def __len__(self) -> int:
        return len(self.members)

    def image(self, index: int) -> Array8:
        """Returns image `index` as uint8 (H, W, 3)."""
        member = self.members[index]
        suffix, offset, size = member.image
        with member.path.open("rb") as file:
            file.seek(offset)
            return decode(file.read(size), f"{member.path}:{member.key}{suffix}")

    def metadata(self, index: int) -> dict[str, Any]:
        """Returns the metadata of image `index`; {} where the tar holds none."""
        member = self.members[index]
        if member.metadata is None:
            return {}
        offset, size = member.metadata
        with member.path.open("rb") as file:
            file.seek(offset)
            text = file.read(size)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UserError(f"{member.path}:{member.key}.json is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise UserError(f"{member.path}:{member.key}.json is not a JSON object")
        return value

    def __iter__(self) -> Iterator[Array8]:
        return (self.image(i) for i in range(len(self)))


def find_shards(folder: Path, category: str | None = None) -> list[Path]:
    """Returns the finished tars below a run folder, of one category (dataset/name) if given.

    `folder` may be a run, its `shards` folder, a category's folder or a single tar.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"shards {folder} do not exist: give a run folder or a tar")
    base = folder / "shards" if (folder / "shards").is_dir() else folder
    tars = [t for t in sorted(base.rglob("*.tar")) if not t.name.startswith(".")]
    done = [t for t in tars if read_record(t) is not None]
    if category is not None:
        done = [t for t in done if (read_record(t) or {}).get("category") == category]
    if not done:
        wanted = f" of category {category}" if category else ""
        message = (
            f"{folder} holds no finished shard{wanted}: run `sia-gen run` first, or mend --shards"
        )
        raise UserError(message)
    return done
