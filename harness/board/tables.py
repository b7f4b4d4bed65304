"""The leaderboard as rows of text, and as tables for a terminal."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

from harness import metrics
from harness.board import costs
from harness.board.words import NO_RUN, Cell, Column, Row, Section, best, differing
from harness.metrics import DISTANCE, SHARE
from sia_gen.core.text import printable

WIDTH = 120  # characters of a terminal's line
# Columns of the main table that make room for the others, the first of them first.
LEAVE = (
    "I-F1/16", "I-F1/own", "I-F1", "P-F1", "I-AP/16", "I-AP/own", "PRO@.05", "I-AP", "MiB",
    "images/s", "categories", "I-AUROC/16", "train s", "density", "cover", "N", "train CPU s",
    "seeds", "P-AUROC", "I-AUROC/own", "FID ref", "KID ref", "memor.", "FID norm", "cLPIPS",
)  # fmt: skip
UNREAL = "tiny-random"  # its figures must never be taken for those of a trained network
# What must be alike in all rows for their numbers to be compared at all.
EVERY_ROW_ALIKE = frozenset({"resolution", "image_size", "networks", "normalisation"})
LEGEND = (
    "Shares times 100. I: image, P: pixel; image scores are the map's maximum, /16 that of 16 x 16"
    " window means, /own a submitted detector's own. F1: at the threshold best on the test set. PRO"
    " up to false-positive rates .3 and .05."
)


def short(column: Column) -> str:
    """Returns a column's short heading, with the version from the second on."""
    text = column.about.short if column.about else column.name.partition("@")[0]
    if column.network == UNREAL:
        text = f"{text}@{column.network}"
    return text if column.version == 1 else f"{text} v{column.version}"


def number(value: float, column: Column) -> str:
    """Returns a value as shown: shares in percent, distances with three digits that matter."""
    if column.unit == SHARE:
        return f"{100 * value:.2f}"
    if column.unit == DISTANCE:
        return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"
    return f"{value:.4f}"


def signed(value: float | None, column: Column) -> str:
    """Returns a difference as shown, with its sign; empty where there is none."""
    if value is None:
        return ""
    return f"{'+' if value >= 0 else '-'}{number(abs(value), column)}"


def spoken(cell: Cell, column: Column) -> str:
    """Returns a cell as text: value, or value ± deviation; `failed`, `not run`, or a dash."""
    if cell.mean is None:
        word = cell.reason.partition(":")[0]
        return word if word in NO_RUN else "-"
    text = number(cell.mean, column)
    return text if cell.std is None else f"{text} ± {number(cell.std, column)}"


def title(section: Section) -> str:
    """Returns a section's heading."""
    if section.kind == "detection":
        return f"Detection on {section.dataset}"
    networks = ", ".join(f"{n} ({sha[:8]})" for n, sha in sorted(section.networks.items()))
    what = f"Quality of synthetic images on {section.dataset}"
    return f"{what}, {section.image_size} pixels, {networks}"


def numbers_compared(row: Row) -> str:
    """Returns how many synthetic and real images stand behind a row's FID, e.g. `96 x 40`."""
    compared = {
        name
        for name, column in metrics.columns("quality").items()
        if column.variant.inputs == ("synthetic", "anomalous")
    }
    found = {
        cell.n
        for cells in row.categories.values()
        for key, cell in cells.items()
        if key.partition("@")[0] in compared and cell.n
    }
    if not found:
        return "-"
    return " x ".join(map(str, next(iter(found)))) if len(found) == 1 else "varies"


def seed_text(row: Row) -> str:
    """Returns the number of seeds and which, e.g. `3 (0, 1, 2)`; `1` where none is named."""
    if row.published_only:
        return "published"
    named = [str(seed) for seed in row.seeds if seed is not None]
    return f"{len(row.seeds)} ({', '.join(named)})" if named else str(len(row.seeds))


def published_columns(section: Section, group: str = "mean") -> list[str]:
    """Returns the keys of the columns for which any row has a published value."""
    return [
        c.key
        for c in section.columns
        if any(row.groups[group][c.key].published for row in section.rows)
    ]


def main_table(
    section: Section, group: str = "mean", mark: str = ""
) -> tuple[list[str], list[list[str]]]:
    """Returns headings and lines of a section's means over a group of categories.

    The best of each column begins with `mark`.
    """
    tops = {c.key: best(section, c, group) for c in section.columns} if mark else {}
    quality = section.kind == "quality"
    heads = ["", "method", "seeds", "N" if quality else "categories", "protocol"]
    published = published_columns(section, group)
    for column in section.columns:
        heads.append(short(column))
        if column.key in published:
            heads += ["published", "difference"]
    cost_heads, cost_cells = costs.columns(section) if group == "mean" else ([], [])
    heads += cost_heads
    lines = []
    for number_of_row, row in enumerate(section.rows):
        place = "" if row.rank is None else str(row.rank)
        covered = f"{len(row.categories)} of {len(section.categories)}"
        line = [place, row.name + row.label, seed_text(row)]
        line += [numbers_compared(row) if quality else covered, row.protocol_id]
        for column in section.columns:
            cell = row.groups[group][column.key]
            top = cell.mean is not None and cell.mean == tops.get(column.key)
            line.append(mark * top + spoken(cell, column))
            if column.key in published:
                line.append(number(cell.published.value, column) if cell.published else "")
                line.append(signed(cell.difference, column))
        lines.append(line + (cost_cells[number_of_row] if cost_heads else []))
    return heads, lines


def category_table(section: Section, column: Column) -> tuple[list[str], list[list[str]]]:
    """Returns headings and lines of one metric: a line a category, a column a row of the board.

    Where the literature has a value for a row and category, it follows in a column of its own.
    """
    known = [
        any(cells[column.key].published for cells in row.categories.values())
        for row in section.rows
    ]
    heads = ["category"]
    for row, has in zip(section.rows, known, strict=True):
        if row.published_only:
            heads += [f"{row.name}, published"] * has
            continue
        twins = sum(other.name == row.name for other in section.rows) > 1
        heads.append(f"{row.name} [{row.protocol_id}]" if twins else row.name + row.label)
        if has:
            heads.append("published")
    lines = []
    for category in section.categories:
        line = [category]
        for row, has in zip(section.rows, known, strict=True):
            cell = row.categories.get(category, {}).get(column.key, Cell(mean=None))
            if not row.published_only:
                line.append(spoken(cell, column))
            if has:
                line.append(number(cell.published.value, column) if cell.published else "")
        lines.append(line)
    return heads, lines


def remarks(section: Section) -> list[str]:
    """Returns what must be said below a section's tables: gaps, notes, differing protocols."""
    said = []
    quoted = [row.name for row in section.rows if row.published_only]
    for row in section.rows:
        if row.published_only:
            continue
        reasons = {c.reason for c in row.groups["mean"].values() if c.mean is None and c.reason}
        stopped = {reason for reason in reasons if reason.partition(":")[0] in NO_RUN}
        reasons = stopped or reasons
        if row.rank is None and section.kind == "detection" and reasons:
            said.append(f"{row.name} is not ranked: {'; '.join(sorted(reasons))}")
        elif reasons - {"not measured"}:
            said.append(f"{row.name}, no mean of some metrics: {'; '.join(sorted(reasons))}")
        said += [f"{row.name}: {note}" for note in row.notes]
        if row.superseded:
            said.append(f"{row.name}: {row.superseded} older records of the same protocol and seed")
    if quoted:
        said.append(f"as published only, not run here: {', '.join(quoted)}")
    for name, key, rows in _differences(section):
        values = [f"{row.protocol_id} {plain(row.protocol.get(key, '-'))}" for row in rows]
        said.append(f"{name} differ in {key}: {'; '.join(dict.fromkeys(values))}")
    return list(dict.fromkeys(said))


def _differences(section: Section) -> list[tuple[str, str, list[Row]]]:
    """Returns (which rows, protocol key, rows) where rows that look alike are not comparable."""
    run_here = [row for row in section.rows if not row.published_only]
    found = [("rows", key, run_here) for key in differing(run_here) if key in EVERY_ROW_ALIKE]
    for name in dict.fromkeys(row.name for row in run_here):
        twins = [row for row in run_here if row.name == name]
        found += [(f"rows of {name}", key, twins) for key in differing(twins)]
    return found


def plain(value: Any) -> str:
    """Returns a protocol value as short text; hashes are cut to 12 digits."""
    if isinstance(value, str):
        return value[:12] if re.fullmatch(r"(state-)?[0-9a-f]{64}", value) else value
    if isinstance(value, dict):
        return ", ".join(f"{k}: {plain(v)}" for k, v in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(plain(v) for v in value)
    return json.dumps(value)


def aligned(heads: list[str], lines: list[list[str]]) -> list[str]:
    """Returns headings, a rule and lines as text in columns, numbers to the right."""
    table = [[printable(cell) for cell in line] for line in [heads, *lines]]
    widths = [max(len(line[i]) for line in table) for i in range(len(heads))]
    value = re.compile(r"^(-|$|failed|undefined|not run|[-+\d.]+( ± [\d.]+)?$)")
    numeric = [
        i > 0 and len(table) > 1 and all(value.match(line[i]) for line in table[1:])
        for i in range(len(heads))
    ]
    out = []
    for line in table:
        parts = [c.rjust(w) if right else c.ljust(w)
                 for c, w, right in zip(line, widths, numeric, strict=True)]  # fmt: skip
        out.append("  ".join(parts).rstrip())
    out.insert(1, "  ".join("-" * width for width in widths))
    return out


def _is_too_wide(lines: list[str]) -> bool:
    return max(map(len, lines)) > WIDTH


def narrowed(heads: list[str], lines: list[list[str]]) -> list[str]:
    """Returns a main table that fits a terminal as far as leaving out columns can do it."""
    left: list[str] = []
    shown = aligned(heads, lines)
    for name in LEAVE:
        if not _is_too_wide(shown):
            break
        plain_heads = [head.removesuffix(f"@{UNREAL}") for head in heads]
        if name not in plain_heads:
            continue
        first = plain_heads.index(name)
        last = first + 1
        while last < len(heads) and heads[last] in {"published", "difference"}:
            last += 1
        heads = heads[:first] + heads[last:]
        lines = [line[:first] + line[last:] for line in lines]
        left.append(name)
        shown = aligned(heads, lines)
    return shown + ([f"left out, see --wide: {', '.join(left)}"] if left else [])


def folded(heads: list[str], lines: list[list[str]]) -> list[str]:
    """Returns a table of many columns as several below each other, each with the first column."""
    parts: list[str] = []
    start = 1
    while start < len(heads):
        end = start + 1
        while end < len(heads) and not _is_too_wide(_columns(heads, lines, start, end + 1)):
            end += 1
        parts += ([""] if parts else []) + _columns(heads, lines, start, end)
        start = end
    return parts


def _columns(heads: list[str], lines: list[list[str]], start: int, end: int) -> list[str]:
    cut = [line[:1] + line[start:end] for line in [heads, *lines]]
    return aligned(cut[0], cut[1:])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def as_text(sections: list[Section], *, wide: bool = False) -> str:
    """Returns the board for a terminal of 120 characters, or with all columns side by side."""
    arranged, by_category = (aligned, aligned) if wide else (narrowed, folded)
    parts = []
    for section in sections:
        parts.append(title(section))
        parts += ["", *arranged(*main_table(section))]
        for group in section.groups[1:]:
            parts += ["", group.replace("_", " over ") + " categories"]
            parts += arranged(*main_table(section, group))
        column = next((c for c in section.columns if c.key == section.rank_by), None)
        if column is not None and len(section.categories) > 1:
            parts += ["", f"{short(column)} by category"]
            parts += by_category(*category_table(section, column))
        said = [f"note: {printable(text)}" for text in remarks(section)]
        parts += ["", *(said if wide else map(_wrapped, said)), ""]
    if any(section.kind == "detection" for section in sections):
        parts.append(LEGEND if wide else _wrapped(LEGEND))
    return "\n".join(parts).rstrip() + "\n"
