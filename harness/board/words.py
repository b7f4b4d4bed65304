"""The leaderboard's words: column, cell, row, section."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.board.published import Published
from harness.metrics import NUMBER, MetricColumn
from harness.records import Record
from sia_gen.core.provenance import hash_options

NO_RUN = frozenset({"failed", "not run"})  # how the reason of a cell without a run begins


@dataclass(frozen=True, kw_only=True)
class Column:
    """A metric's column at one version; `about` is what the registry says of it, if anything."""

    name: str
    version: int
    higher_is_better: bool
    about: MetricColumn | None = None

    @property
    def unit(self) -> str:
        """How values are written: see harness.metrics.Metric."""
        return self.about.metric.unit if self.about else NUMBER

    @property
    def network(self) -> str:
        """The feature network that the name ends with, or nothing."""
        return self.name.partition("@")[2]

    @cached_property
    def key(self) -> str:
        """The column's name, with its version from the second on."""
        return self.name if self.version == 1 else f"{self.name} (v{self.version})"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value with its spread over seeds, or the reason why there is none."""

    mean: float | None
    std: float | None = None
    seeds: int = 0
    reason: str = ""
    n: tuple[int, ...] = ()
    published: Published | None = None
    interval: tuple[float, float] | None = None  # 95 % over test images, of a single seed
    like_published: bool = True  # False: a mean over other categories than the paper's

    @property
    def difference(self) -> float | None:
        """Measured minus published, in the project's unit; None where they are not of the same."""
        if self.mean is None or self.published is None or not self.like_published:
            return None
        return self.mean - self.published.value


@dataclass(kw_only=True)
class Row:
    """One method, source and protocol, with cells by category and by group of categories."""

    method: str
    source: str
    protocol: dict[str, Any]
    seeds: tuple[int | None, ...]
    categories: dict[str, dict[str, Cell]]
    groups: dict[str, dict[str, Cell]]
    complete: bool
    records: list[tuple[Path, Record]]
    notes: tuple[str, ...]
    superseded: int
    rank: int | None = None

    @cached_property
    def protocol_id(self) -> str:
        """Eight digits that two rows share only if their protocols are the same."""
        return hash_options(self.protocol)[:8]

    @property
    def name(self) -> str:
        """What the row is called: the method, and the source where it has one of its own."""
        own = self.source not in {"none", self.method}
        return f"{self.method} + {self.source}" if own else self.method

    @property
    def published_only(self) -> bool:
        """Whether nothing of the row was run here."""
        return not self.records

    @property
    def label(self) -> str:
        """What must stand in each table beside a method whose checkpoint the test set chose."""
        chosen = self.protocol.get("checkpoint_rule") == "best-on-test"
        return " [best-on-test]" if chosen else ""


@dataclass(kw_only=True)
class Section:
    """Rows that may stand in one table: one kind of result, one dataset, one set of networks."""

    kind: str
    dataset: str
    networks: dict[str, str]
    image_size: int | None
    columns: list[Column]
    categories: dict[str, str]
    groups: list[str]
    rows: list[Row]
    rank_by: str | None = None
    notes: list[str] = field(default_factory=list)


def best(section: Section, column: Column, group: str = "mean") -> float | None:
    """Returns the best mean of a column, for marking it; None where there is nothing to compare.

    A reference says what real images give and is nobody's merit: it has no best.
    """
    values = [row.groups[group][column.key].mean for row in section.rows]
    held = [value for value in values if value is not None]
    if len(held) < 2 or (column.about and column.about.variant.reference):
        return None
    return max(held) if column.higher_is_better else min(held)


def differing(rows: list[Row]) -> list[str]:
    """Returns the protocol keys in which rows differ, sorted."""
    keys = {key for row in rows for key in row.protocol}
    return sorted(
        key for key in keys if len({hash_options([row.protocol.get(key)]) for row in rows}) > 1
    )
