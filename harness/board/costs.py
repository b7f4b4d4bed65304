"""What a row cost, as its runs measured it: training time, speed of scoring, memory."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from harness.board.words import Row, Section

# Fact of a record's `run`, its heading, and digits after the point.
COSTS = (
    ("train_seconds", "train s", 0),
    ("train_cpu_seconds", "train CPU s", 0),
    ("images_per_second", "images/s", 1),
    ("peak_memory_mib", "MiB", 0),
)


def of_row(row: Row) -> dict[str, float]:
    """Returns a row's costs: means over its records (categories and seeds) that state them."""
    found = {}
    for key, _, _ in COSTS:
        values: list[Any] = [record["run"].get(key) for _, record in row.records]
        held = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if held:
            found[key] = fmean(held)
    return found


def columns(section: Section) -> tuple[list[str], list[list[str]]]:
    """Returns the headings of the costs that any row states, and each row's, "-" for none."""
    by_row = [of_row(row) for row in section.rows]
    shown = [cost for cost in COSTS if any(cost[0] in costs for costs in by_row)]
    cells = [
        [f"{costs[key]:.{digits}f}" if key in costs else "-" for key, _, digits in shown]
        for costs in by_row
    ]
    return [head for _, head, _ in shown], cells
