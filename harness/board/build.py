"""The leaderboard: records to sections, rows, cells and ranks. Pure; the order does not matter.

A row is a method, a source and a protocol; whatever differs in any part of the protocol is another
row. A column is a metric and its version. A cell is the mean over seeds with their standard
deviation; a row's mean is the unweighted mean over categories, and exists only where the row has
every category of its section: means over different categories are not comparable.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean
from typing import Any

from harness import metrics
from harness.board.published import Published, PublishedNumbers
from harness.board.words import NO_RUN, Cell, Column, Row, Section
from harness.metrics import KINDS
from harness.records import Record
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.provenance import hash_options

RANK_BY = "image_auroc_max"


def _column_order(column: Column) -> tuple[bool, tuple[int, int, int], str, str, int]:
    place = column.about.order if column.about else (0, 0, 0)
    return column.about is None, place, column.network, column.name, column.version


# What a record is chosen by, and the option that says it.
FILTERS = {
    "kind": "kind", "dataset": "dataset", "category": "categories", "method": "method",
    "source": "source",
}  # fmt: skip


def filtered(
    found: Iterable[tuple[Path, Record]], patterns: dict[str, str | None]
) -> list[tuple[Path, Record]]:
    """Returns the records whose fields match globs, several separated by commas.

    A pattern that matches nothing at all is a mistake, not an empty table.
    """
    kept = list(found)
    for field, pattern in patterns.items():
        if pattern is None:
            continue
        globs = [part.strip() for part in pattern.split(",")]
        known = sorted({str(record[field]) for _, record in kept})
        kept = [(f, r) for f, r in kept if any(fnmatchcase(str(r[field]), g) for g in globs)]
        if not kept:
            raise UserError(
                f"--{FILTERS[field]} {pattern!r} matches no record.{near_names(pattern, known)}"
            )
    return kept


def build(
    found: Iterable[tuple[Path, Record]],
    *,
    rank_by: str = RANK_BY,
    published: PublishedNumbers | None = None,
) -> list[Section]:
    """Returns the sections of (results folder, record) pairs: detection first, by dataset."""
    numbers = published or PublishedNumbers()
    grouped: dict[str, list[tuple[Path, Record]]] = defaultdict(list)
    keys: dict[str, tuple[str, str, dict[str, str], int | None]] = {}
    for folder, record in found:
        protocol = record["protocol"]
        quality = record["kind"] == "quality"
        networks = protocol.get("networks", {}) if quality else {}
        size = protocol.get("image_size") if quality else None
        parts = (record["kind"], record["dataset"], networks, size)
        name = hash_options(list(parts))
        keys[name] = parts
        grouped[name].append((folder, record))
    sections = [
        _section(*keys[name], members, rank_by=rank_by, published=numbers)
        for name, members in grouped.items()
    ]
    _check_rank_by(sections, rank_by)
    return sorted(sections, key=lambda s: (s.kind, s.dataset, sorted(s.networks.items()),
                                           s.image_size or 0))  # fmt: skip


def _check_rank_by(sections: list[Section], rank_by: str) -> None:
    known = sorted({c.key for s in sections if s.kind == "detection" for c in s.columns})
    if known and rank_by not in known:
        raise UserError(f"--rank-by {rank_by!r} was not measured.{near_names(rank_by, known)}")


def _section(
    kind: str,
    dataset: str,
    networks: dict[str, str],
    image_size: int | None,
    members: list[tuple[Path, Record]],
    *,
    rank_by: str,
    published: PublishedNumbers,
) -> Section:
    columns: dict[tuple[str, int], Column] = {}
    known = metrics.columns(*(KINDS[:2] if kind == "detection" else KINDS[2:]))
    kinds: dict[str, str] = {}
    rows: dict[str, list[tuple[Path, Record]]] = defaultdict(list)
    for folder, record in members:
        for name, entry in record["metrics"].items():
            if (name, entry["version"]) not in columns:
                columns[name, entry["version"]] = Column(
                    name=name,
                    version=entry["version"],
                    higher_is_better=entry["higher_is_better"],
                    about=known.get(name.partition("@")[0]),
                )
        if kinds.get(record["category"], "unknown") == "unknown":
            kinds[record["category"]] = record["category_kind"]
        key = hash_options([record["method"], record["source"], record["protocol"]])
        rows[key].append((folder, record))
    kinds = dict(sorted(kinds.items()))
    groups = {"mean": list(kinds)}
    if set(kinds.values()) == {"texture", "object"}:
        for each in ("texture", "object"):
            groups[f"mean_{each}"] = [c for c, k in kinds.items() if k == each]
    ordered = sorted(columns.values(), key=_column_order)
    built = [_row(own, ordered, groups, dataset, published) for own in rows.values()]
    section = Section(
        kind=kind,
        dataset=dataset,
        networks=dict(networks),
        image_size=image_size,
        columns=ordered,
        categories=kinds,
        groups=list(groups),
        rows=built,
    )
    _rank(section, rank_by if kind == "detection" else None)
    return section


Age = tuple[str, bool, str]


def _ages(records: list[tuple[Path, Record]]) -> list[Age]:
    """Returns what orders records in time; of one second, a measured one is after a failed one.

    The hash decides where that leaves two of one category and seed.
    """
    plain = [
        (r["created"], any(e["value"] is not None for e in r["metrics"].values()))
        for _, r in records
    ]
    places = [(*age, r["category"], r["seed"]) for age, (_, r) in zip(plain, records, strict=True)]
    alike = Counter(places)
    return [
        (*age, hash_options(r) if alike[place] > 1 else "")
        for age, place, (_, r) in zip(plain, places, records, strict=True)
    ]


def _values(
    records: list[tuple[Age, Record]], columns: list[Column]
) -> tuple[dict[tuple[str, int | None, str], dict[str, Any]], int]:
    """Returns the entries by (category, seed, column), the newest of each, and how many records
    gave none because a newer one of the same protocol and seed took their place."""
    newest: dict[tuple[str, int | None, str], tuple[Age, int, dict[str, Any]]] = {}
    known = {(c.name, c.version): c.key for c in columns}
    for number, (age, record) in enumerate(records):
        for name, entry in record["metrics"].items():
            key = (record["category"], record["seed"], known[name, entry["version"]])
            if key not in newest or age > newest[key][0]:
                newest[key] = (age, number, entry)
    used = {number for _, number, _ in newest.values()}
    return {key: entry for key, (_, _, entry) in newest.items()}, len(records) - len(used)


def _row(
    records: list[tuple[Path, Record]],
    columns: list[Column],
    groups: dict[str, list[str]],
    dataset: str,
    published: PublishedNumbers,
) -> Row:
    aged = sorted(
        zip(_ages(records), records, strict=True),
        key=lambda each: (each[0], each[1][1]["category"], str(each[1][1]["seed"])),
    )
    records = [pair for _, pair in aged]
    first = records[0][1]
    method, source = first["method"], first["source"]
    entries, superseded = _values([(age, pair[1]) for age, pair in aged], columns)
    seeds = sorted({r["seed"] for _, r in records}, key=lambda s: (s is None, s or 0))
    present = {r["category"] for _, r in records}
    categories = {}
    for category in groups["mean"]:
        if category in present:
            categories[category] = {
                c.key: _cell([entries.get((category, s, c.key)) for s in seeds],
                             published.find(dataset, category, method, source, c.name))
                for c in columns
            }  # fmt: skip
    means = {}
    for group, names in groups.items():
        means[group] = {
            c.key: _group_cell(
                names,
                seeds,
                c,
                entries,
                published.find(dataset, group, method, source, c.name),
                group != "mean" or set(names) >= published.categories(dataset),
            )
            for c in columns
        }
    told: dict[str, set[str]] = defaultdict(set)
    for _, record in records:
        for note in record["notes"]:
            told[note].add(record["category"])
    notes = [
        note if said == present else f"{', '.join(sorted(said))}: {note}"
        for note, said in told.items()
    ]
    return Row(
        method=method,
        source=source,
        protocol=first["protocol"],
        seeds=tuple(seeds),
        categories=categories,
        groups=means,
        complete=present >= set(groups["mean"]),
        records=records,
        notes=tuple(sorted(notes)),
        superseded=superseded,
    )


def _deviation(values: list[float]) -> float:
    """Returns the sample's standard deviation (the standard library's takes ten times as long)."""
    mean = fmean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _cell(entries: list[dict[str, Any] | None], published: Published | None) -> Cell:
    held = [entry for entry in entries if entry is not None]
    values = [entry["value"] for entry in held]
    if not values:
        return Cell(mean=None, reason="not measured", published=published)
    n = tuple(held[0].get("n", ())) if len({tuple(e.get("n", ())) for e in held}) == 1 else ()
    if any(value is None for value in values):
        reason = next(entry["reason"] for entry in held if entry["value"] is None)
        return Cell(mean=None, reason=reason, n=n, published=published)
    spread = _deviation(values) if len(values) > 1 else None
    interval = held[0].get("interval") if len(held) == 1 else None
    return Cell(
        mean=fmean(values),
        std=spread,
        seeds=len(values),
        n=n,
        published=published,
        interval=(interval[0], interval[1]) if interval else None,
    )


def _group_cell(
    names: list[str],
    seeds: list[int | None],
    column: Column,
    entries: dict[tuple[str, int | None, str], dict[str, Any]],
    published: Published | None,
    like_published: bool,
) -> Cell:
    """Returns the mean over categories: per seed first, then over the seeds that have them all."""
    per_seed = []
    for seed in seeds:
        held = [entries.get((category, seed, column.key)) for category in names]
        values = [entry["value"] for entry in held if entry is not None]
        if len(values) == len(names) and None not in values:
            per_seed.append(fmean(values))
    if per_seed:
        spread = _deviation(per_seed) if len(per_seed) > 1 else None
        return Cell(
            mean=fmean(per_seed),
            std=spread,
            seeds=len(per_seed),
            published=published,
            like_published=like_published,
        )
    wanted = {(c, s, column.key) for c in names for s in seeds} & entries.keys()
    nulls = sorted({key[0] for key in wanted if entries[key]["value"] is None})
    if nulls:
        reasons = {str(entries[k]["reason"]) for k in wanted if entries[k]["value"] is None}
        if len(reasons) == 1 and next(iter(reasons)).partition(":")[0] in NO_RUN:
            reason = next(iter(reasons))
        else:
            why = "; ".join(sorted(reason.removesuffix(": undefined") for reason in reasons))
            reason = f"undefined in {', '.join(nulls)}: {why}"
    elif len(measured := {key[0] for key in wanted}) < len(names):
        reason = f"{len(measured)} of {len(names)} categories"
    else:
        reason = "no seed has every category"
    return Cell(mean=None, reason=reason, published=published)


def _rank(section: Section, rank_by: str | None) -> None:
    key = rank_by
    if key is None:
        # Quality rows are ordered, not ranked: KID does not depend on how many images there are.
        key = next((c.key for c in section.columns if c.name.startswith("kid@")), None)
    column = next((c for c in section.columns if c.key == key), None)

    def value(row: Row) -> float | None:
        return row.groups["mean"][column.key].mean if column else None

    def order(row: Row) -> tuple[bool, float, str, str, str]:
        score = value(row)
        sign = -1.0 if column and column.higher_is_better else 1.0
        return score is None, sign * (score or 0.0), row.method, row.source, row.protocol_id

    section.rows.sort(key=order)
    section.rank_by = key
    if rank_by is None or column is None:
        return
    for place, row in enumerate(section.rows):
        before = section.rows[place - 1] if place else None
        if value(row) is None:
            row.rank = None
        elif before is not None and value(before) == value(row):
            row.rank = before.rank
        else:
            row.rank = place + 1
