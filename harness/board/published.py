"""Numbers that papers published, beside which measured ones may stand, never mixed with them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import metrics
from harness.metrics import SHARE, Metric
from sia_gen.core.data.dataset import MANIFESTS
from sia_gen.core.errors import UserError

FILE = MANIFESTS / "published.csv"
COLUMNS = ("paper", "table", "dataset", "category", "method", "setting", "metric", "value")
MEANS = frozenset({"mean", "mean_texture", "mean_object"})
# Settings that are the papers' main protocol, not an ablation.
MAIN_SETTINGS = frozenset({"", "images=1000;runs=3"})
# Settings under which papers compare whole systems: rows of their own, METHOD/SETTING.
OTHER_SETTINGS = frozenset({"multi-class"})
# The image score that papers take where it is not the map's maximum, by how their methods' names
# begin: the RealNet authors' code takes the maximum of 16 x 16 window means.
IMAGE_SCORES = {"realnet": "avgpool16_max"}
# Names under which the harness runs systems that the papers spell otherwise.
ALIASES = {"stfpm": "stpm", "csflow": "cs-flow"}


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published value in this project's unit (shares 0..1, not percent) and its place."""

    value: float
    place: str


def _column(method: str, metric: Metric) -> tuple[str, float]:
    """Returns the measured column that a published metric answers to, and its factor."""
    factor = 0.01 if metric.unit == SHARE else 1.0
    if metric.kind == "image":
        scores = next((s for name, s in IMAGE_SCORES.items() if method.startswith(name)), "max")
        return f"{metric.name}_{scores}", factor
    name = metric.name + metric.variants[0].suffix  # the first variant is the papers'
    return (f"{name}@{metric.network}" if metric.network else name), factor


@cache
def plain(name: str) -> str:
    """Returns a name without what spellings differ in."""
    return name.casefold().replace("_", "-").replace(" ", "-")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"published numbers {path} cannot be read: {error}") from error
    if not rows or tuple(rows[0]) != COLUMNS:
        raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    return rows


def of_table(paper: str, table: str, path: Path = FILE) -> dict[tuple[str, str, str, str], float]:
    """Returns one table's values as printed, by (category, method, setting, metric)."""
    return {
        (row["category"], row["method"], row["setting"], row["metric"]): float(row["value"])
        for row in _rows(path)
        if row["paper"] == paper and row["table"] == table
    }


class PublishedNumbers:
    """Look-up by dataset, category (or mean, mean_texture, mean_object), method and metric."""

    def __init__(self, path: Path = FILE) -> None:
        self._values: dict[tuple[str, str, str, str], Published] = {}
        self._categories: dict[str, set[str]] = {}
        known = {name: metrics.load(name) for name in metrics.names()}
        for row in _rows(path):
            if row["category"] not in MEANS:
                self._categories.setdefault(plain(row["dataset"]), set()).add(row["category"])
            if row["metric"] not in known:
                continue
            if row["setting"] not in MAIN_SETTINGS | OTHER_SETTINGS:
                continue
            column, factor = _column(row["method"], known[row["metric"]])
            # One model for all categories is another problem: it never stands beside a row of ours.
            other = f"/{row['setting']}" if row["setting"] in OTHER_SETTINGS else ""
            method = plain(row["method"]) + other
            key = (plain(row["dataset"]), row["category"], method, column)
            place = f"{row['paper']}, Table {row['table']}"
            value = Published(value=float(row["value"]) * factor, place=place)
            self._values.setdefault(key, value)

    def names(self, method: str, source: str) -> list[str]:
        """Returns the published names that a row answers to, the closest first."""
        found = [plain(f"{method}+{source}")]
        if source in {"none", method}:
            found.append(plain(ALIASES.get(plain(method), method)))
        return found

    def datasets(self) -> list[str]:
        """Returns the datasets that papers give numbers of single categories for."""
        return sorted(self._categories)

    def methods(self, dataset: str, *metrics: str) -> list[str]:
        """Returns the methods with a published value of any of these metrics on a dataset."""
        wanted = plain(dataset)
        found = {m for d, _, m, metric in self._values if d == wanted and metric in metrics}
        return sorted(found)

    def categories(self, dataset: str) -> set[str]:
        """Returns the categories that papers give numbers for, over which their means are."""
        return self._categories.get(plain(dataset), set())

    def find(
        self, dataset: str, category: str, method: str, source: str, metric: str
    ) -> Published | None:
        """Returns the published value of `method+source` (or of the method alone), or None."""
        for name in self.names(method, source):
            key = (plain(dataset), category, name, metric)
            if key in self._values:
                return self._values[key]
        return None
