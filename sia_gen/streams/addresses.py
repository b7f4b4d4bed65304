"""Which tars a stream reads: a run's finished shards, or addresses with braces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options
from sia_gen.core.store.objects import Location, filesystem, is_url, locate
from sia_gen.core.store.shards import find_shards, read_record

WEB = ("http", "https")
TAR = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True, kw_only=True)
class Tars:
    """What a stream reads: the addresses in order, each with its shard's record or {}."""

    urls: tuple[str, ...]
    records: tuple[dict[str, Any], ...]

    @property
    def sha256(self) -> str:
        """The hash of the shards' recorded hashes; of addresses and sizes where none is recorded.

        A file that changes without changing its size is not noticed where nothing is recorded.
        """
        found = [
            str(record.get("sha256")) if record else f"{url} {_size(url)}"
            for url, record in zip(self.urls, self.records, strict=True)
        ]
        return hash_options(sorted(found))


def as_place(text: str) -> Location | None:
    """Returns the run folder, prefix or local tar that a text names.

    None where it names tars by braces, by `::`, on the web, or by their endings in a store: what
    has no records to look for. UserError where its scheme is refused.
    """
    scheme = text.partition("://")[0].lower() if is_url(text) else ""
    if scheme in WEB or re.search(r"[{}]|::", text):
        return None
    place = locate(text)
    return None if text.endswith(TAR) and not _recorded(place) else place


def _recorded(place: Location) -> bool:
    return read_record(place) is not None


def open_tars(text: str, category: str | None) -> Tars:
    """Returns what to stream: finished shards of one category where `text` is a run, all where
    category is None; else the tars that it names. UserError where there are none.
    """
    place = as_place(text)
    if place is not None:
        tars = [*find_shards(place, None if place.is_file() else category)]
        records = tuple(read_record(tar) or {} for tar in tars)
        return Tars(urls=tuple(map(str, tars)), records=records)
    from webdataset.shardlists import expand_urls  # brings torch

    try:
        urls = tuple(expand_urls(text))
    # braceexpand raises ValueError, what follows it others; only the text is common.
    except Exception as error:
        raise UserError(f"{text!r} cannot be expanded: {error}") from error
    for url in urls:
        check_url(url)
        if not is_url(url) and not Path(url).is_file():
            raise UserError(f"{url} does not exist: mend the address, or its braces")
    if not urls:
        raise UserError(f"{text!r} names no tar")
    return Tars(urls=urls, records=({},) * len(urls))


def check_url(url: str) -> None:
    """Raises UserError where an address is no file of the web, a store or this machine."""
    scheme = url.partition(":")[0].lower() if is_url(url) else "file"
    if scheme in WEB and "://" in url:
        return
    locate(url)  # which refuses pipe: and whatever else it does not know


def open_file(url: str) -> Any:
    """Returns a file that reads an address from its beginning, by blocks of a few MiB."""
    scheme = url.partition("://")[0].lower() if is_url(url) else "file"
    blocks = {"cache_type": "readahead", "block_size": 4 * 2**20}
    if scheme in WEB:
        return filesystem(scheme).open(url, "rb", **blocks)
    place = locate(url)
    if isinstance(place, Path):
        return place.open("rb")
    return filesystem(place.scheme).open(str(place.key), "rb", **blocks)


def _size(url: str) -> int | None:
    """Returns an address's size in bytes; None where a server does not tell."""
    scheme = url.partition("://")[0].lower() if is_url(url) else "file"
    try:
        if scheme in WEB:
            size = filesystem(scheme).info(url).get("size")
            return None if size is None else int(size)
        return int(locate(url).stat().st_size)
    except OSError as error:
        raise UserError(f"{url} cannot be read: {error}") from error
