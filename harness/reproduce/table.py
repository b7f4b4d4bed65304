"""The table of a paper: published | measured | difference, from cells and published numbers."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from harness import metrics
from harness.board import published
from harness.board.exports import latex_table, markdown_table
from harness.board.tables import aligned
from harness.metrics import SHARE
from harness.reproduce.plan import Plan, Row
from sia_gen.core.data.dataset import read_manifest
from sia_gen.core.store.files import write_bytes
from sia_gen.core.text import CsvWriter

FORMATS = ("table", "md", "csv", "json", "latex")
MEANS = ("mean", "mean_texture", "mean_object")
States = dict[tuple[str, str, int], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One number of the table: as published, as measured with its spread, or why it is missing."""

    row: str
    place: str  # a category, or one of MEANS
    metric: str
    published: float | None
    measured: float | None
    std: float | None
    seeds: int
    reason: str
    unlike: str  # why the published number is no measure for the one made here; empty: it is

    @property
    def difference(self) -> float | None:
        """Measured minus published, in the paper's unit; None where they are not of the same."""
        if self.measured is None or self.published is None or self.unlike:
            return None
        return self.measured - self.published


def places(plan: Plan) -> list[tuple[str, list[str]]]:
    """Returns the lines' places, (name, its categories): each category, then the means."""
    found = [(name, [name]) for name, _ in plan.categories]
    kinds = {kind for _, kind in plan.categories}
    if len(plan.categories) > 1 or plan.form == "rows":
        if {"texture", "object"} <= kinds:
            for kind in ("texture", "object"):
                found.append((f"mean_{kind}", [n for n, k in plan.categories if k == kind]))
        found.append(("mean", [name for name, _ in plan.categories]))
    return found


def _value(state: dict[str, Any], metric: str) -> tuple[float | None, str]:
    """Returns a value, or None and why: `not run`, `failed: ...` or `undefined: ...`."""
    if not state:
        return None, "not run"
    if state.get("state") != "done":
        return None, f"failed: {state.get('reason', 'no reason given')}"
    entry = state["metrics"].get(metric)
    if entry is None:
        return None, f"undefined: {metric} was not measured"
    return entry["value"], f"undefined: {entry['reason']}" if entry["value"] is None else ""


def _measured(
    plan: Plan, states: States, row: Row, names: list[str], metric: str
) -> tuple[list[float], str]:
    """Returns a value for each seed that has every category, and the first reason of a gap."""
    values, gap = [], ""
    for seed in plan.seeds:
        found = [_value(states.get((row.name, name, seed), {}), metric) for name in names]
        missing = [(n, why) for n, (v, why) in zip(names, found, strict=True) if v is None]
        if missing:
            name, why = missing[0]
            gap = gap or (f"{why} ({name}, seed {seed})" if len(names) > 1 else why)
        else:
            values.append(fmean(v for v, _ in found if v is not None))
    return values, gap


def entries(plan: Plan, states: States) -> list[Entry]:
    """Returns every number of the table, by place, row and metric."""
    known = published.of_table(plan.paper, plan.table)
    found = []
    for place, names in places(plan):
        for row in plan.rows:
            for metric, ours in plan.metrics.items():
                values, gap = _measured(plan, states, row, names, ours)
                factor = 100.0 if metrics.load(metric).unit == SHARE else 1.0
                values = [factor * value for value in values]
                found.append(
                    Entry(
                        row=row.name,
                        place=place,
                        metric=metric,
                        published=_published(known, place, row, metric),
                        measured=fmean(values) if values else None,
                        std=stdev(values) if len(values) > 1 else None,
                        seeds=len(values),
                        reason=gap,
                        unlike=unlike(plan, states, row, place, names, metric),
                    )
                )
    return found


def _published(
    known: dict[tuple[str, str, str, str], float], place: str, row: Row, metric: str
) -> float | None:
    """Returns the paper's number; a dataset of one category stands for its own mean."""
    named = {key[0] for key in known} - set(MEANS)
    alone = min(named) if len(named) == 1 and place == "mean" else place
    return known.get(
        (place, row.method, row.setting, metric),
        known.get((alone, row.method, row.setting, metric)),
    )


def unlike(plan: Plan, states: States, row: Row, place: str, names: list[str], metric: str) -> str:
    """Returns why a published number is no measure for the one made here, or nothing.

    Another dataset, other categories in a mean, another feature network, other numbers of images.
    """
    if plan.measured_on != plan.dataset:
        return f"published on {plan.dataset}, measured on {plan.measured_on}"
    published_over, ours = metrics.load(metric).network, plan.metrics[metric]
    network = ours.partition("@")[2]
    if published_over and network != published_over:
        return f"published over {published_over}, measured over {network or 'no network'}"
    listed = read_manifest(plan.dataset)
    wanted = {n for n, f in listed.items() if place in {"mean", f"mean_{f.get('kind')}"}}
    if place in MEANS and wanted and set(names) != wanted:
        return f"{place} over {len(names)} categories, the paper's over {len(wanted)}"
    asked = re.search(r"images=(\d+)", row.setting)
    for name in names:
        for seed in plan.seeds:
            state = states.get((row.name, name, seed), {})
            n = list(state.get("metrics", {}).get(ours, {}).get("n", ()))
            if plan.kind == "quality":
                if asked and n and n[0] != int(asked[1]):
                    return f"published of {asked[1]} synthetic images, measured of {n[0]}"
                continue
            facts = listed.get(name, {})
            here = [facts.get("test_anomalous"), facts.get("test_good")]
            if n and None not in here and n != here:
                return (
                    f"{name}: {n[0]} anomalous and {n[1]} normal test images, the dataset has"
                    f" {here[0]} and {here[1]}"
                )
    return ""


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def _triple(entry: Entry) -> list[str]:
    measured = _number(entry.measured)
    if entry.std is not None:
        measured += f" ± {entry.std:.2f}"
    if entry.measured is None and entry.reason:
        measured = re.split("[:(]", entry.reason)[0].strip()
    return [_number(entry.published), measured, _number(entry.difference, "+")]


def blocks(plan: Plan, found: list[Entry]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Returns the printed tables, (caption, headings, lines), in the paper's form.

    An ablation has a line a row; a comparison has a line a category and a table a metric.
    """
    by = {(e.place, e.row, e.metric): e for e in found}

    def triple(name: str) -> list[str]:
        return [f"{name}: published", "measured", "difference"]

    if plan.form == "rows":
        out = []
        listed = [place for place, _ in places(plan) if place in MEANS]
        for place in listed:
            heads = ["", *(t for m in plan.metrics for t in triple(metrics.load(m).title))]
            lines = [
                [row.name, *(t for m in plan.metrics for t in _triple(by[place, row.name, m]))]
                for row in plan.rows
            ]
            caption = {"mean": "Mean over categories", "mean_texture": "Mean over textures",
                       "mean_object": "Mean over objects"}[place]  # fmt: skip
            out.append((caption, heads, lines))
        return out
    return [
        (
            metrics.load(metric).title,
            ["", *(t for row in plan.rows for t in triple(row.name))],
            [
                [place, *(t for row in plan.rows for t in _triple(by[place, row.name, metric]))]
                for place, _ in places(plan)
            ],
        )
        for metric in plan.metrics
    ]


def remarks(plan: Plan, states: States) -> list[str]:
    """Returns what must be said below the table: other data, the budget, and what failed."""
    said = list(plan.notes)
    found = entries(plan, states)
    both = [e for e in found if e.unlike and e.measured is not None and e.published is not None]
    said += list(dict.fromkeys(f"no difference: {e.unlike}" for e in both))
    gaps = [e for e in found if e.measured is None]
    said += list(dict.fromkeys(f"{e.row}, {metrics.load(e.metric).title}: {e.reason}"
                               for e in gaps if e.reason.startswith("undefined")))  # fmt: skip
    for cell in plan.cells:
        state = states.get((cell.row, cell.category, cell.seed), {})
        if state.get("state") == "failed":
            said.append(f"failed: {cell.row}, {cell.category}, seed {cell.seed}: {state['reason']}")
    return said


def _heading(plan: Plan) -> str:
    seeds = f"seed{'s' * (len(plan.seeds) > 1)} {', '.join(map(str, plan.seeds))}"
    return f"{plan.paper}, Table {plan.table}: {plan.title} ({plan.measured_on}, {seeds})"


def render(plan: Plan, states: States, form: str) -> str:
    """Returns the table in one of FORMATS; shares are in percent, as papers print them."""
    found = entries(plan, states)
    if form == "json":
        rows = [
            {"row": e.row, "place": e.place, "metric": e.metric, "published": e.published,
             "measured": e.measured, "difference": e.difference, "std": e.std, "seeds": e.seeds,
             "reason": e.reason, "unlike": e.unlike} for e in found
        ]  # fmt: skip
        document = {
            "schema": 1, "paper": plan.paper, "table": plan.table, "title": plan.title,
            "published_on": plan.dataset, "measured_on": plan.measured_on,
            "seeds": list(plan.seeds), "entries": rows, "remarks": remarks(plan, states),
        }  # fmt: skip
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    if form == "csv":
        buffer = io.StringIO()
        columns = ("place", "row", "metric", "published", "measured", "difference", "std", "seeds",
                   "reason", "unlike")  # fmt: skip
        writer = CsvWriter(buffer, columns)
        for e in found:
            numbers = ["" if v is None else f"{v:.4f}" for v in
                       (e.published, e.measured, e.difference, e.std)]  # fmt: skip
            writer.row([e.place, e.row, e.metric, *numbers, e.seeds, e.reason, e.unlike])
        return buffer.getvalue()
    said = remarks(plan, states)
    if form == "latex":
        parts = [latex_table(*block[1:], f"{_heading(plan)}. {block[0]}")
                 for block in blocks(plan, found)]  # fmt: skip
        return "\n".join([*parts, *(f"% {text}" for text in said)]) + "\n"
    parts = [f"## {_heading(plan)}" if form == "md" else _heading(plan), ""]
    for caption, heads, lines in blocks(plan, found):
        shown = markdown_table(heads, lines) if form == "md" else aligned(heads, lines)
        parts += [f"**{caption}**" if form == "md" else caption, "", *shown, ""]
    parts += [f"- {text}" if form == "md" else f"note: {text}" for text in said]
    return "\n".join(parts).rstrip() + "\n"


def publish(out: Path, plan: Plan, states: States) -> None:
    """Writes the table in every format below OUT, as table.SUFFIX."""
    for form, suffix in zip(FORMATS, ("txt", "md", "csv", "json", "tex"), strict=True):
        write_bytes(out / f"table.{suffix}", render(plan, states, form).encode())
