"""The peers, and the systems of the papers' tables, as lists."""

from __future__ import annotations

import csv
from typing import Any

from harness.board.published import FILE
from harness.board.tables import aligned
from harness.peers import catalog, installed
from sia_gen.core.errors import UserError

OURS = ("realnet", "redi", "sdas", "wide_resnet50_2-distillation")
SOURCES = ("cutpaste", "dtd", "nsa", "sdas")


def models() -> list[dict[str, Any]]:
    """Returns every peer with what it takes and what it needs."""
    offered = set(catalog.classes())
    found = []
    for peer in catalog.peers():
        takes = "weights" if peer.backbone else ""
        if peer.only:
            takes += f" of {peer.only[0]}" + (" or its kin" if len(peer.only) > 1 else "")
        if peer.textures:
            takes = "textures"
        needs = peer.needs
        if installed() and peer.cls not in offered:
            needs = "a newer anomalib"
        found.append({
            "model": peer.name, "class": peer.cls, "what": peer.title, "takes": takes,
            "needs": needs, "read_as": list(peer.traps),
        })  # fmt: skip
    return found


def systems() -> list[dict[str, Any]]:
    """Returns every system that the papers' tables name, with where its numbers can come from."""
    try:
        with FILE.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"published numbers {FILE} cannot be read: {error}") from error
    tables: dict[str, dict[str, None]] = {}
    for row in rows:
        place = f"{row['paper']} {row['table']}"
        tables.setdefault(row["method"], {})[place] = None
    found = []
    for method, places in sorted(tables.items()):
        ours = method.partition("+")[0] in OURS or method in SOURCES
        peer = catalog.of_published(method)
        can = "made here" if ours else f"peers run --model {peer}" if peer else "as published only"
        if method == "rd":
            can = "made here (detector train --recipe rd)"
        if method == "cutpaste":
            can = "made here as a source; as a detector as published only"
        found.append({"system": method, "tables": list(places), "numbers": can})
    return found


def as_text(found: list[dict[str, Any]]) -> str:
    """Returns a list for a terminal."""
    keys = [key for key in found[0] if key != "read_as"]
    lines = [
        [", ".join(v) if isinstance(v := item[key], list) else str(v) for key in keys]
        for item in found
    ]
    return "\n".join(aligned(keys, lines)) + "\n"
