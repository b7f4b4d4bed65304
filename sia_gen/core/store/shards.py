"""Shards: WebDataset tars of images with a record beside each, the truth about what is done.

    shards/<dataset>/<category>/<category>-00000.tar     members <key>.json, <key>.png
    shards/<dataset>/<category>/<category>-00000.json    the record: written last

A shard is done when its record exists and matches: specification hash, size and SHA-256.
Tars are read by offset and never extracted; links, devices, pickles and foreign paths are refused.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from sia_gen.core.errors import UserError
from sia_gen.core.pixels import png
from sia_gen.core.pixels.images import Array8
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.documents import parse_json
from sia_gen.core.store.files import create_bytes, is_there, read_json, to_json, write_bytes
from sia_gen.core.store.mirror import local_copy
from sia_gen.core.store.objects import Location, StoreError
from sia_gen.core.store.tars import Synthetic, Tar, members
from sia_gen.core.store.walk import walk

__all__ = ["Synthetic"]  # a shard's content; it lives beside the writer of tars

SCHEMA = 1
IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
# Beside its image a pair has its mask and, if asked for, its normal image.
MASK, NORMAL = ".mask.png", ".normal.png"
PAIR_SUFFIXES = (MASK[1:], NORMAL[1:])
PICKLES = frozenset({"pyd", "pickle", "pkl", "pth", "pt"})
RECORD_COMES = 3.0  # seconds in which a living writer's record follows its tar


def record_path(tar: Location) -> Location:
    """Returns the path of a shard's record."""
    return tar.with_suffix(".json")


def publish(
    path: Location, tar: Tar, spec_hash: str, record: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Publishes a tar and, last, its record; returns the record that holds from now on.

    The first writer wins: a shard that somebody else finished meanwhile to the same specification
    stays, and its record is returned. A tar without a record is nobody's and is replaced.
    """
    if not create_bytes(path, tar.content) and not _holds(path, tar):
        end = time.monotonic() + RECORD_COMES
        while not is_done(path, spec_hash, checksum=True):
            if time.monotonic() > end or record_path(path).is_file():
                write_bytes(path, tar.content)
                break
            time.sleep(0.1)
    full = {"schema": SCHEMA, "file": path.name, **record()}
    content = to_json(full)
    if not create_bytes(record_path(path), content):
        if is_done(path, spec_hash, checksum=True):
            return read_record(path) or full
        write_bytes(record_path(path), content)
    return full


def _holds(path: Location, tar: Tar) -> bool:
    """Returns whether a file already is this tar; False too where it went away meanwhile."""
    try:
        return path.stat().st_size == len(tar.content) and _sha256(path) == tar.facts["sha256"]
    except FileNotFoundError:
        return False


def _sha256(path: Location) -> str:
    if isinstance(path, Path):
        return sha256_file(path)
    digest = hashlib.sha256()
    for block in path.blocks():
        digest.update(block)
    return digest.hexdigest()


def read_record(tar: Location) -> dict[str, Any] | None:
    """Returns a shard's record, or None where there is none or only a torn or foreign one."""
    try:
        record = read_json(record_path(tar))
    except StoreError:
        raise
    except UserError:
        return None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return None
    return record


def is_done(tar: Location, spec_hash: str, *, checksum: bool = False) -> bool:
    """Returns whether a shard is complete and made to this specification."""
    record = read_record(tar)
    if record is None or record.get("spec_hash") != spec_hash or not tar.is_file():
        return False
    if tar.stat().st_size != record.get("bytes"):
        return False
    return not checksum or _sha256(tar) == record.get("sha256")


@dataclass(frozen=True)
class _Member:
    path: Path
    key: str
    image: tuple[str, int, int]  # suffix, offset, size
    metadata: tuple[int, int] | None
    extras: dict[str, tuple[int, int]]  # by suffix: offset, size


def _scan(path: Path) -> list[_Member]:
    images: dict[str, tuple[str, int, int]] = {}
    metadata: dict[str, tuple[int, int]] = {}
    extras: dict[str, dict[str, tuple[int, int]]] = {}
    for member in members(path):
        name, place = member.name, (member.offset, member.size)
        key, dot, suffix = name.partition(".")
        if suffix.rpartition(".")[2] in PICKLES:
            raise UserError(f"{path}: member {name!r} is a pickle, which may run code")
        dotted = "." in suffix and suffix not in PAIR_SUFFIXES
        if dotted and name.endswith(IMAGE_SUFFIXES):
            raise UserError(f"{path}: member {name!r} has a dot in its key: rename it")
        if dot + suffix in IMAGE_SUFFIXES:
            if key in images:
                raise UserError(f"{path}: key {key!r} occurs twice")
            images[key] = (dot + suffix, *place)
        elif suffix == "json":
            metadata[key] = place
        elif suffix in PAIR_SUFFIXES:
            extras.setdefault(key, {})[dot + suffix] = place
    return [
        _Member(path, key, image, metadata.get(key), extras.get(key, {}))
        for key, image in images.items()
    ]


def _whole(tar: Location) -> Location:
    """Returns the tar; UserError where its record says it was longer: tar itself cannot tell."""
    record = read_record(tar)
    said = None if record is None else record.get("bytes")
    if said is None or not tar.is_file():
        return tar
    size = tar.stat().st_size
    if size != said:
        raise UserError(f"{tar} has {size} bytes, its record says {said}: `sia-gen verify` the run")
    return tar


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


class ShardReader:
    """Random access to the images of a set of tars, in the order of paths and members."""

    def __init__(self, tars: Iterable[Location]) -> None:
        local = [local_copy(_whole(tar)) for tar in sorted(tars, key=str)]
        self.members = [member for tar in local for member in _scan(tar)]
        if not self.members:
            raise UserError("the shards hold no image")

    def __len__(self) -> int:
        return len(self.members)

    def image(self, index: int) -> Array8:
        """Returns image `index` as uint8 (H, W, 3)."""
        member = self.members[index]
        suffix, offset, size = member.image
        return png.read(_read(member.path, offset, size), f"{member.path}:{member.key}{suffix}")

    def extra(self, index: int, suffix: str) -> Array8:
        """Returns the image that lies beside image `index`, such as MASK, as uint8 (H, W, 3)."""
        member = self.members[index]
        name = f"{member.path}:{member.key}{suffix}"
        if suffix not in member.extras:
            raise UserError(f"{name} is not in the shard")
        return png.read(_read(member.path, *member.extras[suffix]), name)

    def metadata(self, index: int) -> dict[str, Any]:
        """Returns the metadata of image `index`; {} where the tar holds none."""
        member = self.members[index]
        if member.metadata is None:
            return {}
        text = _read(member.path, *member.metadata)
        try:
            value = parse_json(text, numbers=True)
        except ValueError as error:
            raise UserError(f"{member.path}:{member.key}.json is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise UserError(f"{member.path}:{member.key}.json is not a JSON object")
        return value

    def __iter__(self) -> Iterator[Array8]:
        return (self.image(i) for i in range(len(self)))


def _tars_below(base: Location) -> list[Location]:
    if isinstance(base, Path):
        return [*walk(base, lambda path: path.suffix == ".tar" and path.name[0] != ".")]
    every: list[Location] = [*base.rglob("*.tar")]
    ordered = sorted(every, key=lambda tar: str(tar).split("/"))
    return [tar for tar in ordered if not tar.name.startswith(".")]


@overload
def find_shards(folder: Path, category: str | None = None) -> list[Path]: ...
@overload
def find_shards(folder: Location, category: str | None = None) -> Sequence[Location]: ...
def find_shards(folder: Location, category: str | None = None) -> Sequence[Location]:
    """Returns the finished tars below a run folder, of one category (dataset/name) if given.

    `folder` may be a run, its `shards` folder, a category's folder or a single tar.
    """
    there = is_there(str(folder)) if isinstance(folder, Path) else folder.exists()
    if not there:
        raise UserError(f"shards {str(folder)[:200]} do not exist: give a run folder or a tar")
    if folder.is_file():
        return [folder]
    base = folder / "shards" if (folder / "shards").is_dir() else folder
    tars = _tars_below(base)
    found = ((tar, read_record(tar)) for tar in tars)
    done = [
        tar
        for tar, record in found
        if record is not None and (category is None or category == record.get("category"))
    ]
    if not done:
        wanted = f" of category {category}" if category else ""
        message = (
            f"{folder} holds no finished shard{wanted}: run `sia-gen run` first, or mend --shards"
        )
        raise UserError(message)
    return done
