"""Where synthetic images come from, as their shards' records say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store.documents import read_limited
from sia_gen.core.store.made_from import LEVELS
from sia_gen.core.store.shards import find_shards, read_record
from sia_gen.streams.addresses import Tars, as_place, open_tars

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


def tars_of(shards: str, category: Category, *, stream: bool = False) -> Tars:
    """Returns a category's finished tars; UserError where there are none or they are another's.

    A stream may also be of tars without records: they are taken for the category's.
    """
    if stream:
        tars = open_tars(shards, category.key)
    else:
        paths = find_shards(Path(shards), category.key)
        records = tuple(read_record(tar) or {} for tar in paths)
        tars = Tars(urls=tuple(map(str, paths)), records=records)
    for tar, record in zip(tars.urls, tars.records, strict=True):
        found = record.get("category")
        if found != category.key and (record or not stream):
            hint = "" if record else ": --stream takes tars without records for the category's"
            raise UserError(
                f"{tar} holds {found or 'no recorded category'}, not {category.key}{hint}"
            )
    return tars


def origin(shards: str, tars: Tars, stated: str | None) -> Origin:
    """Returns the origin that shard records state; UserError where they differ or name no method.

    A method's version (`sdas-1`) is part of what shaped the images, not of the source's name.
    """
    found = tars.records
    specs = [r["spec"] if isinstance(r.get("spec"), dict) else {} for r in found]
    shaping = [{key: spec[key] for key in (*SHAPING, "seed") if key in spec} for spec in specs]
    for tar, facts in zip(tars.urls, shaping, strict=True):
        if facts != shaping[0]:
            keys = sorted(k for k in {*facts, *shaping[0]} if facts.get(k) != shaping[0].get(k))
            raise UserError(f"{tars.urls[0]} and {tar} were made differently: {', '.join(keys)}")
    facts = dict(shaping[0]) if shaping else {}
    seed = facts.pop("seed", None)
    method = str(facts.get("method", ""))
    name, _, version = method.rpartition("-")
    source = stated or (name if name and version.isdigit() else method)
    if not source:
        raise UserError(
            f"{tars.urls[0]}: the shard records do not name the synthesis method: give --source"
            " NAME"
        )
    hashes = {"shards_sha256": tars.sha256}
    place = as_place(shards)
    candidate = place.resolve() if isinstance(place, Path) else place
    for _ in range(LEVELS + 1):
        if candidate is None:
            break
        if (candidate / "run.json").is_file():
            hashes["run_sha256"] = sha256_bytes(read_limited(candidate / "run.json"))
            break
        candidate = candidate.parent
    return Origin(
        source=source,
        shaping=facts,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        hashes=hashes,
    )
