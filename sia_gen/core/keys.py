"""Keys of samples in shards: ASCII, without dots, short, and each of one sample of a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from sia_gen.core.provenance import sha256_bytes

LONGEST = 60  # characters of a name; the index comes after it


def plain_name(name: str) -> str:
    """Returns a name as tar readers need it: letters, digits, - and _, at most 60."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:LONGEST]


def key_prefixes(categories: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Returns what the keys of each (dataset, category) of a run begin with, no two alike.

    The category's plain name where it is one's alone; with the dataset before it where two datasets
    have one of that name; with a short hash where names differ only in what is not ASCII.
    """
    own = list(dict.fromkeys(categories))
    found = {pair: plain_name(pair[1]) for pair in own}
    steps = (
        lambda dataset, category: plain_name(f"{dataset}-{category}"),
        lambda dataset, category: (
            plain_name(category)[: LONGEST - 9]
            + f"-{sha256_bytes(f'{dataset}/{category}'.encode('utf-8', 'surrogateescape'))[:8]}"
        ),
    )
    for longer in steps:
        # Keys are compared without case: some file systems to which shards are unpacked have none.
        times = Counter(prefix.casefold() for prefix in found.values())
        found = {
            pair: longer(*pair) if times[prefix.casefold()] > 1 else prefix
            for pair, prefix in found.items()
        }
    return found


def sample_key(prefix: str, index: int) -> str:
    """Returns the key of one sample."""
    return f"{prefix}-{index:08}"
