"""The leaderboard as one HTML page: no request leaves it, no name enters it unescaped."""

# ruff: noqa: RUF001  (the page is typeset: signs of multiplication and dashes are meant)

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from harness.board import costs, plots, tables
from harness.board.words import Cell, Column, Row, Section, best
from harness.metrics import SHARE
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image
from sia_gen.core.store.files import write_bytes
from sia_gen.core.version import __version__

TEMPLATE = "leaderboard.html"
LARGE = 1_200_000  # bytes: larger contact sheets are shown as JPEG

OUTCOMES = {
    "found": "Found: anomalies that score highest",
    "missed": "Worst: anomalies that score lowest",
    "false alarm": "Worst: normal images that score highest",
    "quiet": "Normal images that score lowest",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One example: a data URI, or None where its file is gone, and what it shows."""

    uri: str | None
    alt: str
    defect: str
    outcome: str
    score: float


def data_uri(content: bytes, kind: str) -> str:
    """Returns bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def sheet_uri(path: Path) -> str:
    """Returns a contact sheet as a data URI, decoded and encoded anew; large ones as JPEG."""
    image = Image.fromarray(read_image(path))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    if buffer.tell() <= LARGE:
        return data_uri(buffer.getvalue(), "image/png")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return data_uri(buffer.getvalue(), "image/jpeg")


def heading(column: Column, named: bool = False) -> tuple[str, str]:
    """Returns a column's heading and its second line, which names the network where asked."""
    about = column.about
    details = [
        about.detail if about else "",
        column.network if named else "",
        f"version {column.version}" if column.version > 1 else "",
    ]
    name = about.metric.title if about else column.name.partition("@")[0]
    return name, "; ".join(filter(None, details))


def shade(value: float | None, column: Column) -> str:
    """Returns the class that tints a cell: shares only, in steps of a tenth from 0.5 on."""
    if value is None or column.about is None or column.unit != SHARE:
        return ""
    floor = column.about.metric.chance
    return f"t{round(max(0.0, min(1.0, (value - floor) / (1.0 - floor))) * 10)}"


def _cell(cell: Cell, column: Column, top: float | None) -> dict[str, Any]:
    return {
        "text": "–" if cell.mean is None else tables.number(cell.mean, column),
        "word": tables.spoken(cell, column).replace("-", "–") if cell.mean is None else "",
        "std": None if cell.std is None else tables.number(cell.std, column),
        "seeds": cell.seeds,
        "sort": "" if cell.mean is None else repr(cell.mean),
        "reason": cell.reason,
        "best": cell.mean is not None and top is not None and cell.mean == top,
        "shade": shade(cell.mean, column),
        "n": " × ".join(map(str, cell.n)),
        "published": tables.number(cell.published.value, column) if cell.published else "",
        "place": cell.published.place if cell.published else "",
        "difference": tables.signed(cell.difference, column),
        "interval": (
            [tables.number(value, column) for value in cell.interval] if cell.interval else None
        ),
    }


def _pictures(row: Row, category: str) -> list[Picture]:
    held = [(f, r) for f, r in row.records if r["category"] == category]
    if not held:
        return []
    # One seed's pictures stand for the row: the newest record of the first seed.
    seeds = [r["seed"] for _, r in held]
    first = min(seeds, key=lambda s: (s is None, s or 0))
    folder, record = [pair for pair in held if pair[1]["seed"] == first][-1]
    pictures = []
    for example in record["artifacts"].get("examples", []):
        file = folder / example["file"]
        uri = _picture_uri(file)
        alt = f"{category}, {example['defect']}, {example['outcome']}: image, mask, score map"
        pictures.append(
            Picture(
                uri=uri,
                alt=alt,
                defect=example["defect"],
                outcome=example["outcome"],
                score=example["score"],
            )
        )
    order = list(OUTCOMES)
    return sorted(pictures, key=lambda p: order.index(p.outcome))


def _seeds(row: Row) -> str:
    if row.published_only:
        return "as published"
    named = [str(seed) for seed in row.seeds if seed is not None]
    if not named:
        return "one run"
    return f"seed{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _row(row: Row, section: Section, group: str) -> dict[str, Any]:
    return {
        "rank": row.rank,
        "method": row.method + row.label,
        "source": "" if row.source in {"none", row.method} else row.source,
        "seeds": _seeds(row),
        "twin": sum(other.name == row.name for other in section.rows) > 1,
        "complete": row.complete,
        "n": tables.numbers_compared(row),
        "covered": f"{len(row.categories)} of {len(section.categories)}",
        "protocol": row.protocol_id,
        "cells": [
            _cell(row.groups[group][c.key], c, best(section, c, group)) for c in section.columns
        ],
    }


def _metric_tables(section: Section) -> list[dict[str, Any]]:
    found = []
    for column in section.columns:
        lines = []
        for category in section.categories:
            cells = [row.categories.get(category, {}).get(column.key) for row in section.rows]
            values = [c.mean for c in cells if c is not None and c.mean is not None]
            pick = max if column.higher_is_better else min
            top = pick(values) if len(values) > 1 else None
            missing = Cell(mean=None, reason="not measured")
            lines.append((category, [_cell(c or missing, column, top) for c in cells]))
        name, detail = heading(column, len(section.networks) > 1)
        found.append({"name": name, "detail": detail, "lines": lines,
                      "fold": column.key != section.rank_by})  # fmt: skip
    return found


def _protocols(section: Section) -> list[dict[str, Any]]:
    keys = sorted({key for row in section.rows for key in row.protocol})
    lines = []
    for key in keys:
        values = [tables.plain(row.protocol[key]) if key in row.protocol else "–"
                  for row in section.rows]  # fmt: skip
        stated = {tables.plain(row.protocol[key]) for row in section.rows if key in row.protocol}
        lines.append({"key": key, "values": values, "differs": len(stated) > 1})
    return sorted(lines, key=lambda line: (not line["differs"], line["key"]))


def _gallery(section: Section) -> list[dict[str, Any]]:
    if section.kind != "detection":
        return []
    found = []
    for category in section.categories:
        rows = [
            {"name": row.name, "protocol": row.protocol_id, "pictures": _pictures(row, category)}
            for row in section.rows
        ]
        if any(row["pictures"] for row in rows):
            found.append({"category": category, "kind": section.categories[category],
                          "rows": [row for row in rows if row["pictures"]]})  # fmt: skip
    return found


def _plots(section: Section) -> list[dict[str, Any]]:
    make = plots.curves if section.kind == "detection" else plots.strengths
    made = [{"category": c, "plots": make(section, c)} for c in section.categories]
    return [entry for entry in made if entry["plots"]]


def _nearest(section: Section) -> list[dict[str, Any]]:
    """Returns the closest pairs of synthetic and training images, by category and row."""
    found = []
    for category in section.categories:
        for row in section.rows:
            held = [(f, r) for f, r in row.records if r["category"] == category]
            pairs = [
                {**pair, "uri": _picture_uri(folder / pair["file"])}
                for folder, record in held[-1:]
                for pair in record["artifacts"].get("nearest", [])
            ]
            if pairs:
                found.append({"category": category, "name": row.name, "protocol": row.protocol_id,
                              "pairs": pairs})  # fmt: skip
    return found


def _picture_uri(file: Path) -> str | None:
    return data_uri(file.read_bytes(), "image/jpeg") if file.is_file() else None


def _section(section: Section, number: int) -> dict[str, Any]:
    cost_heads, cost_cells = costs.columns(section)
    # Systems as published stand in the main table; the others speak of runs.
    whole, section = section, replace(section, rows=[r for r in section.rows if r.records])
    names = [row.name for row in section.rows]
    return {
        "id": f"s{number}",
        "kind": section.kind,
        "dataset": section.dataset,
        "image_size": section.image_size,
        "networks": sorted(section.networks.items()),
        "columns": [
            dict(zip(("name", "detail"), heading(c, len(section.networks) > 1), strict=True))
            | {"better": c.higher_is_better, "ranked": c.key == section.rank_by, "key": c.key}
            for c in section.columns
        ],
        "published": {group: tables.published_columns(whole, group) for group in whole.groups},
        "costs": cost_heads,
        "groups": [
            {"name": group, "rows": [
                _row(row, whole, group) | {"costs": cells}
                for row, cells in zip(whole.rows, cost_cells, strict=True)
            ]}
            for group in whole.groups
        ],
        "row_heads": [
            {"name": row.name, "protocol": row.protocol_id, "twin": names.count(row.name) > 1}
            for row in section.rows
        ],
        "categories": section.categories,
        "metric_tables": _metric_tables(section),
        "protocols": _protocols(section),
        "remarks": tables.remarks(whole),
        "gallery": _gallery(section),
        "plots": _plots(section),
        "nearest": _nearest(section),
    }  # fmt: skip


def _csp_hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode() + "'"


def page_environment() -> Any:
    """Returns the templates' environment: everything is escaped, a missing value is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["csp_hash"] = _csp_hash
    return environment


def render(sections: list[Section], sheets: Iterable[Path], title: str) -> str:
    """Returns the page; names are escaped, pictures are embedded, scripts are bound by hash."""
    return (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            title=title,
            version=__version__,
            sections=[_section(section, i) for i, section in enumerate(sections, 1)],
            colours=plots.COLOURS,
            sheets=[{"name": path.name, "uri": sheet_uri(path)} for path in sheets],
            outcomes=OUTCOMES,
        )
    )


def write(path: Path, sections: list[Section], sheets: Iterable[Path], title: str) -> None:
    """Publishes the page under path."""
    if path.is_dir():
        raise UserError(f"--html {path} is a folder: give a file name such as {path}/board.html")
    write_bytes(path, render(sections, sheets, title).encode())
