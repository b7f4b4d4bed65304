"""Recipe and options to cells: which command lines make which numbers of a paper's table."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.reproduce.options import Options, slug
from sia_gen.core.data.dataset import MANIFESTS, Category, Dataset
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.provenance import hash_options
from sia_gen.core.recipes import read_recipe, read_yaml

COMMANDS = ("sia-gen", "detector", "harness")
KINDS = ("detection", "quality")
MODEL, TEXTURES = "model", "textures"  # what a recipe's `sources` may say that one takes


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command line; jobs that several cells need have the same name and the same command."""

    name: str
    command: tuple[str, ...]

    @property
    def spec_hash(self) -> str:
        """The hash of what the job runs."""
        return hash_options(list(self.command))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row's result on one category with one seed: jobs in order, the last one measures."""

    row: str
    category: str
    seed: int
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """The cell's file name, without suffix."""
        return f"{slug(self.row)}--{slug(self.category)}--{self.seed}"

    @property
    def spec_hash(self) -> str:
        """The hash of everything the cell runs: a cell of another plan is not this one."""
        return hash_options([job.spec_hash for job in self.jobs])


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: what it is called here and in the published numbers."""

    name: str
    method: str
    setting: str
    needs: tuple[str, ...] = ()  # what its source of anomalies takes: MODEL, TEXTURES


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A table to be made: its cells in the order of work, and what its form is."""

    paper: str
    table: str
    title: str
    dataset: str  # the paper's
    measured_on: str
    kind: str
    form: str  # "rows": one line a row; "categories": one line a category
    metrics: dict[str, str]  # published metric -> measured metric
    rows: tuple[Row, ...]
    categories: tuple[tuple[str, str], ...]  # (name, kind)
    seeds: tuple[int, ...]
    cells: tuple[Trial, ...]
    notes: tuple[str, ...]


def recipe_names() -> list[str]:
    """Returns the papers that have a recipe, sorted."""
    folder = MANIFESTS / "recipes"
    return sorted(p.stem.removeprefix("reproduce-") for p in folder.glob("reproduce-*.yaml"))


def read_table(name: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Returns a paper's recipe, the table's name and the table, for `paper/table` or FILE:table."""
    place, separator, table = name.rpartition(":" if ".yaml:" in name or ".yml:" in name else "/")
    if not separator:
        raise UserError(
            f"table {name!r}: expected PAPER/TABLE such as realnet/5a, or FILE.yaml:TABLE; `harness"
            " reproduce --list` shows them"
        )
    if place.endswith((".yaml", ".yml")):
        content = read_yaml(Path(place)).get("reproduce")
        if not isinstance(content, dict):
            raise UserError(f"{place} has no section 'reproduce'")
    elif place in recipe_names():
        content = read_recipe(f"reproduce-{place}", "reproduce")
    else:
        raise UserError(f"paper {place!r} has no recipe.{near_names(place, recipe_names())}")
    tables = {str(key): value for key, value in content.get("tables", {}).items()}
    found = {key.casefold(): key for key in tables}.get(table.casefold())
    if found is None:
        raise UserError(f"{place} has no table {table!r}.{near_names(table, sorted(tables))}")
    return content, found, tables[found]


def listed() -> Iterator[tuple[str, str]]:
    """Yields (paper/table, title) of every table that can be reproduced."""
    for paper in recipe_names():
        content = read_recipe(f"reproduce-{paper}", "reproduce")
        for name, table in content["tables"].items():
            yield f"{paper}/{name}", str(table["title"])


def _by_budget(value: Any, budget: str) -> Any:
    """Returns a recipe's value, or that of the budget where it gives one for each."""
    return value[budget] if isinstance(value, dict) and budget in value else value


def _expanded(template: str, values: dict[str, Any], where: str) -> tuple[str, ...]:
    """Returns a command line; `{name}` becomes a value, alone also several words or none."""
    words: list[str] = []
    for word in shlex.split(template):
        whole = re.fullmatch(r"\{(\w+)\}", word)
        if whole and isinstance(values.get(whole[1]), tuple):
            words += values[whole[1]]
            continue

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                near = near_names(match[1], sorted(values))
                raise UserError(f"{where}: {{{match[1]}}} is unknown.{near}")
            return str(values[match[1]])

        words.append(re.sub(r"\{(\w+)\}", value, word))
    if not words or words[0] not in COMMANDS:
        found = words[0] if words else "nothing"
        raise UserError(f"{where}: {found!r} is no command: expected {', '.join(COMMANDS)}")
    return tuple(words)


class _Planner:
    """Expands the rows of one table under one budget."""

    def __init__(self, options: Options, dataset: Dataset) -> None:
        self.content, self.table, self.entry = read_table(options.table)
        self.options, self.dataset = options, dataset
        budgets = self.content["budgets"]
        if options.budget not in budgets:
            raise UserError(
                f"budget {options.budget!r} is unknown.{near_names(options.budget, [*budgets])}"
            )
        self.budget = {**budgets[options.budget], **_by_budget(self.entry.get("budget", {}),
                                                               options.budget)}  # fmt: skip
        self.numbers = dict(self.budget.get("numbers", {}))
        for name, value in options.numbers.items():
            if name not in self.numbers:
                near = near_names(name, sorted(self.numbers))
                raise UserError(
                    f"budget {options.budget} of {options.table} has no {name!r}.{near}"
                )
            self.numbers[name] = value
        self.where = f"{options.table}, budget {options.budget}"

    def command(self, step: str, values: dict[str, Any]) -> tuple[str, ...]:
        """Returns one step's command line."""
        template = self.budget.get(step)
        if not isinstance(template, str):
            raise UserError(f"{self.where} does not say how to {step}")
        common = {"data": self.options.data, **self.numbers}
        return _expanded(template, {**common, **values}, f"{self.where}: {step}")

    def model(self) -> tuple[str, list[Job]]:
        """Returns the diffusion model to synthesise with, and the job that trains it, if any."""
        if self.options.model:
            return self.options.model, []
        shipped = self.budget.get("shipped_models", {})
        if self.options.data in shipped:
            return str(shipped[self.options.data]), []
        folder = self.options.folder / "model"
        command = self.command("train_model", {"folder": folder})
        return str(folder / "model"), [Job(name="model", command=command)]

    def source(self, row: dict[str, Any]) -> str:
        """Returns what makes a row's synthetic anomalies."""
        return str(row.get("source", self.content.get("source", "sdas")))

    def takes(self, row: dict[str, Any]) -> tuple[str, ...]:
        """Returns what a row's source takes, as the recipe's `sources` say."""
        return tuple(self.content.get("sources", {}).get(self.source(row), ()))

    def textures(self, row: dict[str, Any]) -> tuple[str, ...]:
        """Returns the option that names textures, for rows that blend them in."""
        given = self.options.textures if TEXTURES in self.takes(row) else None
        return ("--textures", given) if given else ()

    def shards(self, row: dict[str, Any], category: str, seed: int) -> tuple[Path, list[Job]]:
        """Returns the folder of a row's synthetic images of a category, and how to make them."""
        source = self.source(row)
        low, high = (f"{float(s):g}" for s in row.get("s", (0.1, 0.2)))
        kind = f"{source}-{low}-{high}" if MODEL in self.takes(row) else source
        folder = self.options.folder / "shards" / kind / slug(category) / f"seed-{seed}"
        values = {"category": category, "seed": seed, "folder": folder, "s": (low, high),
                  "source": source, "textures": self.textures(row)}  # fmt: skip
        step, jobs = "synthesise_other", list[Job]()
        if MODEL in self.takes(row):
            step, (values["model"], jobs) = "synthesise", self.model()
        name = f"shards-{kind}-{slug(category)}-{seed}"
        return folder, [*jobs, Job(name=name, command=self.command(step, values))]

    def cell(self, row: dict[str, Any], one: Category, seed: int, kind: str) -> Trial:
        """Returns one cell with its chain of jobs."""
        category = one.name
        name = str(row["name"])
        tag = f"{slug(name)}-{slug(category)}-{seed}"
        results = self.options.folder / "results"
        if kind == "quality":
            folder, jobs = self.shards(row, category, seed)
            values = {"category": category, "shards": folder, "results": results}
            jobs.append(Job(name=f"measure-{tag}", command=self.command("measure_quality", values)))
            return Trial(row=name, category=category, seed=seed, jobs=tuple(jobs))
        jobs = []
        shards: tuple[str, ...] = ()
        if MODEL in self.takes(row):  # others are made while the detector trains
            # The papers fix one set of synthetic images: seeds vary the training alone.
            folder, jobs = self.shards(row, category, 0)
            shards = ("--shards", str(folder))
        run = self.options.folder / "runs" / slug(name) / f"seed-{seed}"
        arguments = _by_budget(row.get("arguments", ""), self.options.budget)
        values = {
            "category": category,
            "categories": self.options.categories,
            "seed": seed,
            "folder": run,
            "recipe": str(
                _by_budget(row.get("recipe", self.budget.get("recipe")), self.options.budget)
            ),
            "textures": self.textures(row),
            "shards": shards,
            "source": self.source(row),
            "arguments": (*shlex.split(str(arguments)), *self.options.train_arguments),
            "scores": run / one.dataset / category / "scores",
            "results": results,
        }
        if row.get("together"):  # one model for all categories: one job for all cells of a seed
            command = self.command("train_together", values)
            jobs.append(Job(name=f"train-{slug(name)}-{seed}", command=command))
        else:
            jobs.append(Job(name=f"train-{tag}", command=self.command("train", values)))
        jobs += [
            Job(name=f"{step}-{tag}", command=self.command(step, values))
            for step in ("score", "measure")
        ]
        return Trial(row=name, category=category, seed=seed, jobs=tuple(jobs))


def plan(options: Options, dataset: Dataset) -> Plan:
    """Returns the plan of a table on a dataset; UserError names what the recipe lacks."""
    try:
        return _plan(options, dataset)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{options.table}: its recipe lacks or misplaces {error}") from error


def _plan(options: Options, dataset: Dataset) -> Plan:
    planner = _Planner(options, dataset)
    entry = planner.entry
    kind = str(entry.get("kind", "detection"))
    if kind not in KINDS:
        raise UserError(f"{options.table}: kind {kind!r} is not one of {', '.join(KINDS)}")
    chosen = [r for r in entry["rows"] if any(
        fnmatch.fnmatchcase(str(r["name"]), pattern.strip()) for pattern in options.rows.split(",")
    )]  # fmt: skip
    if not chosen:
        known = [str(r["name"]) for r in entry["rows"]]
        raise UserError(f"--rows {options.rows!r} matches no row.{near_names(options.rows, known)}")
    categories = dataset.select(options.categories)
    if len({c.name for c in categories}) < len(categories):
        raise UserError(f"--data {options.data}: two datasets share a category's name: a table is"
                        " of one dataset")  # fmt: skip
    seeds = options.seeds or tuple(int(s) for s in planner.budget.get("seeds", (0,)))
    cells = tuple(
        planner.cell(row, category, seed, kind)
        for seed in seeds
        for category in categories
        for row in chosen
    )
    metrics = _by_budget(entry.get("metrics"), options.budget)
    if not isinstance(metrics, dict):
        usual = [
            m for m in ("image_auroc", "pixel_auroc", "pro") if m in planner.content["metrics"]
        ]
        named = metrics or usual
        metrics = {m: planner.content["metrics"][m] for m in named}
    return Plan(
        paper=str(planner.content["paper"]),
        table=planner.table,
        title=str(entry["title"]),
        dataset=str(entry.get("dataset", "mvtec-ad")),
        measured_on=dataset.name,
        kind=kind,
        form=str(entry.get("form", "rows")),
        metrics=dict(metrics),
        rows=tuple(
            Row(
                name=str(row["name"]),
                method=str(row.get("method", entry.get("method", ""))),
                setting=str(row.get("setting", "")),
                needs=planner.takes(row),
            )
            for row in chosen
        ),
        categories=tuple((c.name, c.kind) for c in categories),
        seeds=seeds,
        cells=cells,
        notes=tuple(str(n) for n in _by_budget(planner.budget.get("notes", []), options.budget)),
    )
