"""Index files of a run: its own list of shards, and those that other loaders read.

Their content depends on the shards alone, so that a resumed run's files equal an uninterrupted
one's.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.store.files import write_json
from sia_gen.core.store.objects import Location
from sia_gen.core.store.shards import read_record, record_path
from sia_gen.runs.spec import Shard

BROKEN = (LookupError, TypeError, ValueError, AttributeError)  # what a record lacks raises
BINS = 20  # of the histogram of strengths


@dataclass
class Finished:
    """What the finished shards of a run hold, gathered in one pass over their records."""

    planned: int
    shards: list[dict[str, Any]] = field(default_factory=list)
    wids: list[dict[str, Any]] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)  # by category
    strengths: Counter[int] = field(default_factory=Counter)  # by bin
    first: dict[str, tuple[str, list[tuple[int, int]]]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether no shard is missing."""
        return len(self.shards) == self.planned

    @property
    def bytes(self) -> int:
        """The size of all shards."""
        return sum(int(shard["bytes"]) for shard in self.shards)

    def add(self, spec: Shard, record: dict[str, Any]) -> None:
        """Counts a finished shard; what its record lacks raises one of BROKEN."""
        self.shards.append(
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
        self.wids.append(
            {
                "url": spec.file,
                "nsamples": record["images"],
                "filesize": record["bytes"],
                "md5sum": record["md5"],
            }
        )
        self.images[spec.key] += record["images"]
        drawn = record["spec"]
        for sample in record["samples"] if "s_low" in drawn else ():
            where = strength_bin(sample["strength"], drawn["s_low"], drawn["s_high"])
            self.strengths[where] += 1
        # Images of the first shard stand for their category on the contact sheet.
        if spec.shard == 0 and record.get("offsets"):
            places = [
                (operator.index(place), operator.index(size)) for place, size in record["offsets"]
            ]
            self.first[spec.key] = (spec.file, places)


def strength_bin(strength: float, low: float, high: float) -> int:
    """Returns the bin of a strength, 0 to BINS - 1."""
    if high <= low:
        return 0
    return min(BINS - 1, max(0, int((strength - low) / (high - low) * BINS)))


def gather(run: Location, planned: Sequence[Shard]) -> Finished:
    """Reads the records of a run's finished shards, one after another."""
    finished = Finished(planned=len(planned))
    for spec in planned:
        record = read_record(run / spec.file)
        if record is not None and record.get("spec_hash") == spec.spec_hash:
            try:
                finished.add(spec, record)
            except BROKEN as error:
                place = record_path(run / spec.file)
                raise UserError(
                    f"{place} is no whole record ({error!r}): `sia-gen repair {run}` makes its"
                    " shard again"
                ) from error
    return finished


def write(run: Location, recipe: dict[str, Any], finished: Finished) -> None:
    """Writes index.json, wids.json and sizes.json over the finished shards."""
    index = {
        "schema": 1,
        "complete": finished.complete,
        "images": finished.images.total(),
        "recipe": recipe,
        "shards": finished.shards,
    }
    write_json(run / "index.json", index)
    write_json(
        run / "wids.json",
        {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": finished.wids},
    )
    sizes = {shard["file"]: shard["images"] for shard in finished.shards}
    write_json(run / "sizes.json", sizes)
