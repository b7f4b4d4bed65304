"""The leaderboard for other programs and pages: CSV, JSON, Markdown."""

from __future__ import annotations

import io
import json
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


def latex_table(heads: list[str], lines: list[list[str]], caption: str) -> str:
    """Returns a booktabs table; all columns but the first to the right."""
    rows = [" & ".join(latex_text(cell) for cell in line) + r" \\" for line in lines]
    return "\n".join([
        r"\begin{table}",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(latex_text(head) for head in heads) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ])  # fmt: skip


def as_latex(sections: list[Section]) -> str:
    """Returns the board for a paper: the means of each section, then its ranked metric."""
    parts = ["% needs \\usepackage{booktabs}"]
    for section in sections:
        for group in section.groups:
            named = f"{title(section)}, {group.replace('_', ' over ')}"
            parts.append(latex_table(*main_table(section, group), named))
        column = next((c for c in section.columns if c.key == section.rank_by), None)
        if column is not None and len(section.categories) > 1:
            named = f"{title(section)}: {short(column)} by category"
            parts.append(latex_table(*category_table(section, column), named))
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


def render(sections: list[Section], form: str) -> str:
    """Returns the board in one of FORMATS."""
    if form == "json":
        return json.dumps(as_document(sections), indent=2, allow_nan=False) + "\n"
    known = {"table": as_text, "csv": as_csv, "md": as_markdown, "latex": as_latex}
    return known[form](sections)
