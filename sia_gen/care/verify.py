"""Verification: every byte of a run against its records, and every record against the plan."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_bytes, sha256_file
from sia_gen.core.store.documents import parse_json, read_limited
from sia_gen.core.store.files import TEMPORARY_PREFIX, read_json, write_copy
from sia_gen.core.store.objects import Location, StoreError
from sia_gen.core.store.shards import IMAGE_SUFFIXES, SCHEMA, ShardReader, read_record, record_path
from sia_gen.core.store.tars import members
from sia_gen.generate import contents
from sia_gen.runs import folder, lock
from sia_gen.runs.index import BROKEN, Finished
from sia_gen.runs.spec import Shard


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong: `kind` is one word, `file` is relative to the run folder."""

    kind: str
    file: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was looked at, and what is wrong with it."""

    shards: int
    images: int
    problems: tuple[Problem, ...]

    def condemned(self) -> set[str]:
        """Returns the tars to be made again."""
        return {p.file for p in self.problems if p.file.endswith(".tar")}

    def to_json(self) -> dict[str, Any]:
        """Returns the report as a JSON object."""
        return {
            "ok": not self.problems,
            "shards": self.shards,
            "images": self.images,
            "problems": [asdict(problem) for problem in self.problems],
        }


class ShardFault(Exception):
    """What is wrong with a shard: `kind` is one word, the text begins with a verb."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@contextmanager
def _on_disk(path: Location) -> Iterator[Path]:
    """Yields a shard as a local file, for as long as it is looked at."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sia-gen-verify-") as place:
        local = Path(place) / path.name
        write_copy(local, path)
        yield local


def _check_members(path: Path, names: list[str], extras: tuple[str, ...]) -> list[list[int]]:
    """Compares members with the record's samples: a tar cut at a member's end is still a tar.

    Returns where each image begins, and its size.
    """
    try:
        there = list(members(path))
    except UserError as error:
        raise ShardFault("tar", f"is not a readable tar: {error}") from error
    each = 2 + len(extras)
    found = [member.name for member in there]
    if len(found) != each * len(names):
        detail = f"holds {len(found)} members, its record names {each * len(names)}"
        raise ShardFault("count", detail)
    for position, name in enumerate(names):
        json_name, image_name, *others = found[each * position : each * (position + 1)]
        right = json_name == f"{name}.json" and image_name in {name + s for s in IMAGE_SUFFIXES}
        if not right or others != [name + suffix for suffix in extras]:
            shown = " and ".join([json_name, image_name, *others])
            raise ShardFault("count", f"holds {shown} where its record names {name}")
    return [[member.offset, member.size] for member in there[1::each]]


def _check_samples(path: Path, spec: Shard, samples: list[dict[str, Any]]) -> None:
    try:
        reader = ShardReader([path])
        for position, sample in enumerate(samples):
            image = reader.image(position)
            images = {"": image, **{s: reader.extra(position, s) for s in spec.extras}}
            side = spec.side
            for suffix, found in images.items():
                if side is not None and found.shape != (side, side, 3):
                    detail = f"{sample['key']}{suffix} is {found.shape}, not {side} x {side}"
                    raise ShardFault("image", detail)
            if sha256_bytes(image.tobytes()) != sample["pixels_sha256"]:
                raise ShardFault("pixels", f"{sample['key']} has other pixels than its record")
            if fault := spec.fault(sample, images):
                raise ShardFault("pixels", f"{sample['key']} {fault}")
            metadata = reader.metadata(position)
            if {"key": sample["key"], **metadata} != sample:
                raise ShardFault("metadata", f"{sample['key']} has other metadata than its record")
            expected = spec.expects(position)
            if {name: sample[name] for name in expected} != expected:
                named = ", ".join(expected)
                raise ShardFault("metadata", f"{sample['key']} has another {named} than planned")
    except UserError as error:
        raise ShardFault("image", str(error)) from error


def _schema(path: Location) -> object:
    """Returns the schema that a record on disk claims; None where it claims none."""
    try:
        content = read_json(record_path(path))
    except StoreError:
        raise
    except UserError:
        return None
    return content.get("schema") if isinstance(content, dict) else None


def _checked_record(path: Location, spec_hash: str) -> dict[str, Any]:
    """Returns the record of a shard that is there, planned and of the recorded size."""
    record = read_record(path)
    if record is None:
        if record_path(path).exists():
            found = _schema(path)
            if found is not None and found != SCHEMA:
                detail = f"has a record of schema {found!r}, this version reads {SCHEMA}"
                raise ShardFault("record", detail)
            raise ShardFault("record", "has a torn record")
        if path.exists():
            raise ShardFault("record", "has no record")
        raise ShardFault("missing", "was not made")
    if not path.is_file():
        raise ShardFault("missing", "is gone, its record is there")
    if record.get("spec_hash") != spec_hash:
        raise ShardFault("spec", "was made to another specification")
    size = path.stat().st_size
    if size != record.get("bytes"):
        raise ShardFault("size", f"has {size} bytes, its record says {record.get('bytes')}")
    return record


def _check_shard(run: Location, spec: Shard) -> list[dict[str, Any]]:
    """Returns the samples of a whole shard; raises with what is wrong otherwise."""
    path = run / spec.file
    record = _checked_record(path, spec.spec_hash)
    samples = record.get("samples")
    try:
        with _on_disk(path) as local:
            if sha256_file(local) != record.get("sha256"):
                raise ShardFault("sha256", "does not have the SHA-256 of its record")
            if not isinstance(samples, list) or not (
                record.get("images") == len(samples) == spec.count
            ):
                raise ShardFault("count", f"has a record of other than {spec.count} images")
            names = [sample["key"] for sample in samples]
            places = _check_members(local, names, spec.extras)
            _check_samples(local, spec, samples)
        if record.get("offsets", places) != places:  # those of former versions have none
            raise ShardFault("record", "has images elsewhere than its record says")
        Finished(planned=1).add(spec, record)
    except BROKEN as error:
        raise ShardFault("record", f"has a record without {error}") from error
    return samples


def _strays(run: Location) -> list[Problem]:
    """Returns the temporary files of a run folder."""
    return [
        Problem(kind="stray", file=folder.relative(run, path), detail="temporary file")
        for path in folder.strays(run)
    ]


def _foreign_files(run: Location, tars: Set[str]) -> list[Problem]:
    """Returns the files below shards/ that are neither planned tars nor their records."""
    known = tars | {file.removesuffix(".tar") + ".json" for file in tars}
    problems = []
    found: list[Location] = [*(run / "shards").rglob("*")]
    for path in sorted(found, key=str):
        name = folder.relative(run, path)
        if name in known or path.name.startswith(TEMPORARY_PREFIX):
            continue
        if not isinstance(path, Path) or path.is_file():
            problems.append(Problem(kind="foreign", file=name, detail="is not in the plan"))
    return problems


def _check_index(run: Location, complete: bool) -> list[Problem]:
    path = run / "index.json"
    if folder.document_path(run).name == folder.FORMER and not path.is_file():
        return []  # its first writer made no index
    try:
        said = parse_json(read_limited(path))["complete"]
    except FileNotFoundError:
        return [Problem(kind="index", file="index.json", detail="is missing: run again")]
    except (ValueError, KeyError, TypeError, OSError):
        return [Problem(kind="index", file="index.json", detail="is not readable: run again")]
    if complete and not said:
        detail = "says the run is incomplete, which it is not: run again"
        return [Problem(kind="index", file="index.json", detail=detail)]
    return []


def verify(
    run: Location,
    on_shard: Callable[[int, int], None] = lambda _a, _b: None,
    *,
    token: str | None = None,
) -> Report:
    """Returns what is wrong with a run: sizes, checksums, counts, decoding, pixels, duplicates,
    leftovers. Calls on_shard(checked, total); `token` is of the caller's own lock, if it has one.
    """
    planned = contents.planned(run)
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    images = 0
    for position, spec in enumerate(planned, start=1):
        try:
            samples = _check_shard(run, spec)
        except ShardFault as fault:
            problems.append(Problem(kind=fault.kind, file=spec.file, detail=str(fault)))
            samples = []
        images += len(samples)
        twins = []
        for sample in samples if spec.distinct else ():
            if seen.setdefault(sample["pixels_sha256"], sample["key"]) != sample["key"]:
                twins.append(sample["key"])
        if twins:
            detail = f"{len(twins)} images occur twice in the run, such as {twins[0]}"
            problems.append(Problem(kind="duplicate", file=spec.file, detail=detail))
        on_shard(position, len(planned))
    complete = not problems
    # What a living run has in hand is no leftover.
    problems += [] if lock.live_tokens(run) - {token} else _strays(run)
    problems += _foreign_files(run, {spec.file for spec in planned})
    problems += _check_index(run, complete)
    return Report(shards=len(planned), images=images, problems=tuple(problems))
