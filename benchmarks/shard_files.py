"""Shards for tests and benchmarks that are about what reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sia_gen.core.store.files import write_bytes, write_json
from sia_gen.core.store.objects import Location
from sia_gen.core.store.shards import SCHEMA, record_path
from sia_gen.core.store.tars import Synthetic, TarBuilder


def write_tar(path: Location, samples: Iterable[Synthetic]) -> dict[str, Any]:
    """Publishes samples as a PNG tar; returns its facts: images, bytes, sha256, md5, samples."""
    builder = TarBuilder()
    for sample in samples:
        builder.add(sample)
    tar = builder.finish()
    write_bytes(path, tar.content)
    return tar.facts


def write_record(tar: Location, record: dict[str, Any]) -> None:
    """Publishes a shard's record; from now on the shard counts as done."""
    write_json(record_path(tar), {"schema": SCHEMA, "file": tar.name, **record})
