"""The leaderboard for other programs and pages: CSV, JSON, Markdown."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from harness.board import costs
from harness.board.tables import (
    LEGEND,
    as_text,
    category_table,
    main_table,
    remarks,
    short,
    title,
)
from harness.board.words import Cell, Section, best
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.text import CsvWriter, markdown, printable

FORMATS = ("table", "csv", "json", "md", "latex")


def markdown_table(heads: list[str], lines: list[list[str]], left: int = 1) -> list[str]:
    """Returns a table in Markdown, all columns but the first `left` to the right."""
    rule = ["---" if i < left else "---:" for i in range(len(heads))]
    rows = [[markdown(cell) for cell in line] for line in [heads, *lines]]
    rows.insert(1, rule)
    return ["| " + " | ".join(row) + " |" for row in rows]


def as_markdown(sections: list[Section]) -> str:
    """Returns the board in Markdown: means, then every metric by category."""
    parts = []
    for section in sections:
        parts += [
            f"## {markdown(title(section))}",
            "",
            *markdown_table(*main_table(section), 2),
            "",
        ]
        for group in section.groups[1:]:
            parts += [f"### {group.replace('_', ' over ')} categories", ""]
            parts += [*markdown_table(*main_table(section, group), 2), ""]
        for column in section.columns:
            parts += [f"### {markdown(short(column))} by category", ""]
            parts += [*markdown_table(*category_table(section, column)), ""]
        said = remarks(section)
        parts += [f"- {markdown(text)}" for text in said] + ([""] if said else [])
    if any(section.kind == "detection" for section in sections):
        parts.append(LEGEND)
    return "\n".join(parts).rstrip() + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Returns text with every sign that LaTeX obeys written out."""
    return "".join(_LATEX.get(sign, sign) for sign in printable(text))


def latex_table(
    heads: list[str], lines: list[list[str]], caption: str, label: str = "", bold: str = ""
) -> str:
    """Returns a booktabs table; all columns but the first to the right.

    Cells that begin with the sign `bold` are set bold, without it.
    """

    def cell(text: str) -> str:
        marked = bool(bold) and text.startswith(bold)
        return rf"\textbf{{{latex_text(text.removeprefix(bold))}}}" if marked else latex_text(text)

    rows = [" & ".join(cell(text) for text in line) + r" \\" for line in lines]
    return "\n".join([
        r"\begin{table}",
        rf"\caption{{{latex_text(caption)}}}",
        *([rf"\label{{{label}}}"] if label else []),
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(latex_text(head) for head in heads) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ])  # fmt: skip


def as_latex(sections: list[Section], *, bold: bool = False, label: str = "") -> str:
    """Returns the board for a paper: the means of each section, then its ranked metric.

    With `bold` the best of each column is set bold; tables are labelled LABEL, LABEL-2, ...
    """
    parts = ["% needs \\usepackage{booktabs}"]
    made = 0

    def named_table(table: tuple[list[str], list[list[str]]], caption: str) -> str:
        nonlocal made
        made += 1
        own = label if made == 1 or not label else f"{label}-{made}"
        return latex_table(*table, caption, own, BEST if bold else "")

    for section in sections:
        for group in section.groups:
            named = f"{title(section)}, {group.replace('_', ' over ')}"
            table = main_table(section, group, mark=BEST if bold else "")
            parts.append(named_table(table, named))
        column = next((c for c in section.columns if c.key == section.rank_by), None)
        if column is not None and len(section.categories) > 1:
            named = f"{title(section)}: {short(column)} by category"
            parts.append(named_table(category_table(section, column), named))
        parts += [f"% {printable(text)}" for text in remarks(section)]
    return "\n".join(parts) + "\n"


CSV_COLUMNS = (
    "kind", "dataset", "category", "method", "source", "protocol", "metric", "version", "mean",
    "std", "seeds", "n", "reason", "published", "published_in", "rank", "best", "difference",
    "interval_low", "interval_high",
)  # fmt: skip


def as_csv(sections: list[Section]) -> str:
    """Returns the board in long form: a line for each row, category or mean, and metric."""
    buffer = io.StringIO()
    writer = CsvWriter(buffer, CSV_COLUMNS)
    for section in sections:
        tops = {c.key: best(section, c) for c in section.columns}
        for row in section.rows:
            for place, cells in [*row.groups.items(), *row.categories.items()]:
                for column in section.columns:
                    cell = cells[column.key]
                    top = place == "mean" and cell.mean is not None
                    writer.row([
                        section.kind, section.dataset, place, row.method + row.label, row.source,
                        row.protocol_id, column.name, column.version,
                        "" if cell.mean is None else repr(cell.mean),
                        "" if cell.std is None else repr(cell.std), cell.seeds,
                        "x".join(map(str, cell.n)), cell.reason,
                        repr(cell.published.value) if cell.published else "",
                        cell.published.place if cell.published else "",
                        row.rank or "", int(top and cell.mean == tops[column.key]),
                        "" if cell.difference is None else repr(cell.difference),
                        *(map(repr, cell.interval) if cell.interval else ("", "")),
                    ])  # fmt: skip
    return buffer.getvalue()


def _cell_json(cell: Cell) -> dict[str, Any]:
    value: dict[str, Any] = {"mean": cell.mean, "std": cell.std, "seeds": cell.seeds}
    if cell.reason:
        value["reason"] = cell.reason
    if cell.n:
        value["n"] = list(cell.n)
    if cell.published:
        value["published"] = {"value": cell.published.value, "in": cell.published.place}
        value["difference"] = cell.difference
    if cell.interval:
        value["interval"] = list(cell.interval)
    return value


def as_document(sections: list[Section]) -> dict[str, Any]:
    """Returns the board as a JSON value; shares are 0..1."""

    def cells(by: dict[str, dict[str, Cell]]) -> dict[str, Any]:
        return {name: {k: _cell_json(c) for k, c in row.items()} for name, row in by.items()}

    return {
        "schema": 1,
        "sections": [
            {
                "kind": section.kind,
                "dataset": section.dataset,
                "networks": section.networks,
                "image_size": section.image_size,
                "rank_by": section.rank_by,
                "categories": section.categories,
                "columns": [
                    {"key": c.key, "metric": c.name, "version": c.version,
                     "higher_is_better": c.higher_is_better} for c in section.columns
                ],
                "rows": [
                    {
                        "rank": row.rank,
                        "method": row.method + row.label,
                        "source": row.source,
                        "protocol_id": row.protocol_id,
                        "protocol": row.protocol,
                        "seeds": list(row.seeds),
                        "complete": row.complete,
                        "means": cells(row.groups),
                        "by_category": cells(row.categories),
                        "notes": list(row.notes),
                        "costs": costs.of_row(row),
                        "published_only": row.published_only,
                    }
                    for row in section.rows
                ],
                "remarks": remarks(section),
            }
            for section in sections
        ],
    }  # fmt: skip


BEST = "\x00"  # marks a cell on its way to LaTeX; no text that is shown holds it


def chosen(sections: list[Section], globs: str | None) -> list[Section]:
    """Returns the sections with the columns that match globs; UserError where none does."""
    if globs is None:
        return sections
    wanted = [part.strip() for part in globs.split(",")]
    kept = [
        replace(s, columns=[c for c in s.columns if any(fnmatchcase(c.key, g) for g in wanted)])
        for s in sections
    ]
    if not any(section.columns for section in kept):
        known = sorted({column.key for section in sections for column in section.columns})
        raise UserError(f"--columns {globs!r} matches no column.{near_names(globs, known)}")
    return [section for section in kept if section.columns]


def render(
    sections: list[Section],
    form: str,
    *,
    columns: str | None = None,
    bold: bool = False,
    label: str = "",
    wide: bool = False,
) -> str:
    """Returns the board in one of FORMATS; `bold` and `label` are LaTeX's, `wide` a terminal's."""
    sections = chosen(sections, columns)
    if label and not re.fullmatch(r"[\w:.-]+", label, re.ASCII):
        raise UserError(f"--label {label!r}: expected letters, digits, and : . - _")
    if form == "latex":
        return as_latex(sections, bold=bold, label=label)
    if form == "json":
        return json.dumps(as_document(sections), indent=2, allow_nan=False) + "\n"
    if form == "table":
        return as_text(sections, wide=wide)
    known = {"csv": as_csv, "md": as_markdown}
    return known[form](sections)
