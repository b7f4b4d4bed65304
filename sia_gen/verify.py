"""Verification: every byte of a run against its records, and every record against the plan."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sia_gen import run_folder
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_bytes, sha256_file
from sia_gen.core.shards import ShardReader, read_record, record_path
from sia_gen.plan import ShardSpec, specs


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


class _ShardFault(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def _check_members(path: Path, names: list[str]) -> None:
    """Compares members with the record's samples: a tar cut at a member's end is still a tar."""
    try:
        with tarfile.open(path, "r:") as tar:
            found = tar.getnames()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _ShardFault("tar", f"is not a readable tar: {error}") from error
    expected = [name + suffix for name in names for suffix in (".json", ".png")]
    if found != expected:
        detail = f"holds {len(found)} members, its record names {len(expected)}, in another order"
        if len(found) != len(expected):
            detail = f"holds {len(found)} members, its record names {len(expected)}"
        raise _ShardFault("count", detail)


def _check_samples(path: Path, spec: ShardSpec, samples: list[dict[str, Any]]) -> None:
    try:
        reader = ShardReader([path])
        for position, sample in enumerate(samples):
            image = reader.image(position)
            side = spec.resolution
            if image.shape != (side, side, 3):
                raise _ShardFault("image", f"{sample['key']} is {image.shape}, not {side} x {side}")
            if sha256_bytes(image.tobytes()) != sample["pixels_sha256"]:
                raise _ShardFault("pixels", f"{sample['key']} has other pixels than its record")
            metadata = reader.metadata(position)
            if {"key": sample["key"], **metadata} != sample:
                raise _ShardFault("metadata", f"{sample['key']} has other metadata than its record")
            index = spec.first + position
            seed = spec.image_seed(index)
            said = (sample["index"], sample["seed"], sample["strength"])
            if said != (index, seed, spec.strength(seed)):
                raise _ShardFault("metadata", f"{sample['key']} has a foreign seed or strength")
    except UserError as error:
        raise _ShardFault("image", str(error)) from error


def check_shard(run: Path, spec: ShardSpec) -> list[dict[str, Any]]:
    """Returns the samples of a whole shard; raises with what is wrong otherwise."""
    path = run / spec.file
    record = read_record(path)
    if record is None:
        if record_path(path).exists():
            raise _ShardFault("record", "has a torn record")
        if path.exists():
            raise _ShardFault("record", "has no record")
        raise _ShardFault("missing", "was not made")
    if not path.is_file():
        raise _ShardFault("missing", "is gone, its record is there")
    if record.get("spec_hash") != spec.spec_hash:
        raise _ShardFault("spec", "was made to another specification")
    size = path.stat().st_size
    if size != record.get("bytes"):
        raise _ShardFault("size", f"has {size} bytes, its record says {record.get('bytes')}")
    if sha256_file(path) != record.get("sha256"):
        raise _ShardFault("sha256", "does not have the SHA-256 of its record")
    samples = record.get("samples")
    if not isinstance(samples, list) or not record.get("images") == len(samples) == spec.count:
        raise _ShardFault("count", f"has a record of other than {spec.count} images")
    try:
        _check_members(path, [sample["key"] for sample in samples])
        _check_samples(path, spec, samples)
    except (KeyError, TypeError) as error:
        raise _ShardFault("record", f"has a record without {error}") from error
    return samples


def _check_foreign(run: Path, planned: list[ShardSpec]) -> list[Problem]:
    known = {spec.file for spec in planned}
    known |= {str(Path(file).with_suffix(".json").as_posix()) for file in known}
    strays = set(run_folder.strays(run))
    problems = [
        Problem(kind="stray", file=path.relative_to(run).as_posix(), detail="temporary file")
        for path in sorted(strays)
    ]
    for path in sorted((run / "shards").rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and name not in known and path not in strays:
            problems.append(Problem(kind="foreign", file=name, detail="is not in the plan"))
    return problems


def _check_index(run: Path, complete: bool) -> list[Problem]:
    path = run / "index.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["complete"]
    except FileNotFoundError:
        return [Problem(kind="index", file="index.json", detail="is missing: run again")]
    except (ValueError, KeyError, TypeError, OSError):
        return [Problem(kind="index", file="index.json", detail="is not readable: run again")]
    if complete and not said:
        detail = "says the run is incomplete, which it is not: run again"
        return [Problem(kind="index", file="index.json", detail=detail)]
    return []


def verify(run: Path, on_shard: Callable[[int, int], None] = lambda _a, _b: None) -> Report:
    """Returns what is wrong with a run: sizes, checksums, counts, decoding, pixels, duplicates,
    leftovers. Calls on_shard(checked, total)."""
    planned = specs(run_folder.read_recipe(run))
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    images = 0
    for position, spec in enumerate(planned, start=1):
        try:
            samples = check_shard(run, spec)
        except _ShardFault as fault:
            problems.append(Problem(kind=fault.kind, file=spec.file, detail=str(fault)))
            samples = []
        images += len(samples)
        twins = []
        for sample in samples:
            if seen.setdefault(sample["pixels_sha256"], sample["key"]) != sample["key"]:
                twins.append(sample["key"])
        if twins:
            detail = f"{len(twins)} images occur twice in the run, such as {twins[0]}"
            problems.append(Problem(kind="duplicate", file=spec.file, detail=detail))
        on_shard(position, len(planned))
    complete = not problems
    problems += _check_foreign(run, planned)
    problems += _check_index(run, complete)
    return Report(shards=len(planned), images=images, problems=tuple(problems))
