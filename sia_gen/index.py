"""Index files of a run: its own list of shards, and those that other loaders read."""

from __future__ import annotations

from pathlib import Path

from sia_gen.core.files import write_json
from sia_gen.core.shards import read_record
from sia_gen.plan import Recipe, specs


def write(run: Path, recipe: Recipe) -> int:
    """Writes index.json, wids.json and sizes.json over the finished shards; returns their number.

    The content depends on the shards alone, so that a resumed run's files equal an uninterrupted
    one's.
    """
    planned = specs(recipe)
    entries, wids, sizes = [], [], {}
    for spec in planned:
        record = read_record(run / spec.file)
        if record is None or record.get("spec_hash") != spec.spec_hash:
            continue
        entries.append(
            {
                "file": spec.file,
                "category": spec.key,
                "shard": spec.shard,
                "first": spec.first,
                "images": record["images"],
                "bytes": record["bytes"],
                "sha256": record["sha256"],
            }
        )
        wids.append(
            {
                "url": spec.file,
                "nsamples": record["images"],
                "filesize": record["bytes"],
                "md5sum": record["md5"],
            }
        )
        sizes[spec.file] = record["images"]
    index = {
        "schema": 1,
        "complete": len(entries) == len(planned),
        "images": sum(sizes.values()),
        "recipe": recipe.to_json(),
        "shards": entries,
    }
    write_json(run / "index.json", index)
    write_json(
        run / "wids.json",
        {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": wids},
    )
    write_json(run / "sizes.json", sizes)
    return len(entries)
