"""Where synthetic images come from, as their shards' records say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options, sha256_file
from sia_gen.core.store.shards import find_shards, read_record

# What a shard's specification says that shapes its images and so defines a row; the rest (seed,
# category, shard number, how many images) belongs to the one run.
SHAPING = (
    "method", "s_low", "s_high", "steps", "sampler", "precision", "checkpoint_sha256",
    "resolution", "format",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where synthetic images come from: method, what shaped them, their seed, and file hashes."""

    source: str
    shaping: dict[str, Any]
    seed: int | None
    hashes: dict[str, str]


def tars_of(shards: Path, category: Category) -> list[Path]:
    """Returns a category's finished tars; UserError where there are none or they are another's."""
    tars = find_shards(shards, category.key)
    for tar in tars:
        found = (read_record(tar) or {}).get("category")
        if found != category.key:
            raise UserError(f"{tar} holds {found or 'no recorded category'}, not {category.key}")
    return tars


def origin(shards: Path, tars: list[Path], stated: str | None) -> Origin:
    """Returns the origin that shard records state; UserError where they differ or name no method.

    A method's version (`sdas-1`) is part of what shaped the images, not of the source's name.
    """
    found = [read_record(tar) or {} for tar in tars]
    specs = [r["spec"] if isinstance(r.get("spec"), dict) else {} for r in found]
    shaping = [{key: spec[key] for key in (*SHAPING, "seed") if key in spec} for spec in specs]
    for tar, facts in zip(tars, shaping, strict=True):
        if facts != shaping[0]:
            keys = sorted(k for k in {*facts, *shaping[0]} if facts.get(k) != shaping[0].get(k))
            raise UserError(f"{tars[0]} and {tar} were made differently: {', '.join(keys)}")
    facts = dict(shaping[0]) if shaping else {}
    seed = facts.pop("seed", None)
    method = str(facts.get("method", ""))
    name, _, version = method.rpartition("-")
    source = stated or (name if name and version.isdigit() else method)
    if not source:
        raise UserError(
            f"{tars[0]}: the shard records do not name the synthesis method: give --source NAME"
        )
    hashes = {"shards_sha256": hash_options(sorted(str(r.get("sha256")) for r in found))}
    folder = shards.resolve()
    for candidate in (folder, *folder.parents[:4]):  # a tar lies four levels below its run
        if (candidate / "run.json").is_file():
            hashes["run_sha256"] = sha256_file(candidate / "run.json")
            break
    return Origin(
        source=source,
        shaping=facts,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        hashes=hashes,
    )
