"""Folders of `sia-gen synthesize`, checked byte for byte and mended: what verify and repair are
for a run's images.

Only synthesis.json, the tars and their records are read; to mend, the dataset is needed too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options, sha256_bytes, sha256_file
from sia_gen.core.settings import from_json
from sia_gen.core.store.files import read_json
from sia_gen.core.store.pair_shards import read_pairs
from sia_gen.pairs.make import held, in_use, synthesize
from sia_gen.pairs.plan import KIND, NAME, SCHEMA, SynthesisOptions, prepare, shard_file
from sia_gen.runs.verify import Problem, Report, ShardFault, checked_record, foreign_files, strays


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """A shard that the folder is to hold: `first` and `count` are of its pairs."""

    file: str
    spec_hash: str
    first: int
    count: int


def _document(run: Path) -> dict[str, Any]:
    content = read_json(run / NAME)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{run / NAME} is not of `sia-gen synthesize`")
    if content.get("schema") != SCHEMA:
        found = content.get("schema")
        raise UserError(f"{run / NAME}: schema {found!r}, this version reads {SCHEMA}")
    return content


def planned(run: Path) -> list[PlannedShard]:
    """Returns all shards that a folder of pairs is to hold."""
    recipe = _document(run).get("recipe")
    try:
        assert isinstance(recipe, dict)
        pairs, size = int(recipe["per_category"]), int(recipe["shard_size"])
        found = []
        for facts in recipe["categories"].values():
            for shard, first in enumerate(range(0, pairs, size)):
                spec = {**facts, "shard": shard, "first": first, "count": min(size, pairs - first)}
                found.append(
                    PlannedShard(
                        file=shard_file(spec),
                        spec_hash=hash_options(spec),
                        first=first,
                        count=spec["count"],
                    )
                )
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / NAME}: its recipe is not readable: {error!r}") from error
    return found


def _check(run: Path, shard: PlannedShard) -> int:
    """Returns the number of pairs of a whole shard; raises ShardFault with what is wrong."""
    path = run / shard.file
    record = checked_record(path, shard.spec_hash)
    if sha256_file(path) != record.get("sha256"):
        raise ShardFault("sha256", "does not have the SHA-256 of its record")
    listed = record.get("samples")
    if not isinstance(listed, list) or not record.get("images") == len(listed) == shard.count:
        raise ShardFault("count", f"has a record of other than {shard.count} pairs")
    try:
        pairs = list(read_pairs(path))
    except UserError as error:
        raise ShardFault("image", str(error)) from error
    if len(pairs) != len(listed):
        raise ShardFault("count", f"holds {len(pairs)} pairs, its record names {len(listed)}")
    for place, ((key, image, mask, metadata), sample) in enumerate(zip(pairs, listed, strict=True)):
        if {"key": key, **metadata} != sample:
            raise ShardFault("metadata", f"{key} has other metadata than its record")
        if metadata.get("index") != shard.first + place:
            raise ShardFault("metadata", f"{key} is not the pair that was planned here")
        if sha256_bytes(image.tobytes()) != metadata.get("pixels_sha256"):
            raise ShardFault("pixels", f"{key} has other pixels than its record")
        if sha256_bytes(mask.tobytes()) != metadata.get("mask_sha256"):
            raise ShardFault("pixels", f"{key} has another mask than its record")
    return len(listed)


def verify(run: Path, on_shard: Callable[[int, int], None] = lambda _a, _b: None) -> Report:
    """Returns what is wrong with a folder of pairs; calls on_shard(checked, total)."""
    return _verify(run, on_shard, living=in_use(run))


def _verify(run: Path, on_shard: Callable[[int, int], None], *, living: bool) -> Report:
    shards = planned(run)
    problems, pairs = [], 0
    for place, shard in enumerate(shards, start=1):
        try:
            pairs += _check(run, shard)
        except ShardFault as fault:
            problems.append(Problem(kind=fault.kind, file=shard.file, detail=str(fault)))
        on_shard(place, len(shards))
    # What a living process has in hand is no leftover.
    problems += [] if living else strays(run)
    problems += foreign_files(run, {shard.file for shard in shards})
    return Report(shards=len(shards), images=pairs, problems=tuple(problems))


def repair(
    run: Path,
    *,
    data: str | None = None,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Verifies, drops, makes again; returns `synthesize`'s figures with what was dropped.

    UserError before anything is dropped where data or sources are not what they were.
    """
    from sia_gen.care.repair import drop

    stored = _document(run).get("options")
    try:
        assert isinstance(stored, dict)
        settings = tuple((str(name), value) for name, value in stored["settings"])
        values = {**stored, "settings": [], "out": str(run)}
        options = replace(from_json(SynthesisOptions, values, str(run / NAME)), settings=settings)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / NAME}: its options are not readable: {error!r}") from error
    options = replace(options, data=data or options.data)
    prepare(options)
    with held(run):
        report = _verify(run, lambda _a, _b: None, living=False)
        dropped = drop(run, report)
    figures = synthesize(options, workers, say)
    foreign = [problem.file for problem in report.problems if problem.kind == "foreign"]
    return {**figures, "problems": len(report.problems), "dropped": dropped, "foreign": foreign}
