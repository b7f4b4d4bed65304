"""Rows of systems that stand as published only: papers name them, no run here speaks of them."""

from __future__ import annotations

from harness import metrics
from harness.board.published import MEANS, PublishedNumbers, plain
from harness.board.words import Cell, Column, Row, Section
from harness.measure.detection import category_kind

REASON = "as published only"


def add(sections: list[Section], numbers: PublishedNumbers, dataset: str | None) -> list[Section]:
    """Returns detection sections with a row for every published system that has none of its own.

    Datasets of the papers that have no section get one, unless `dataset` asks for given ones only.
    """
    for section in sections:
        if section.kind == "detection":
            section.rows += _rows(section, numbers)
    if dataset is not None:
        return sections
    measured = {plain(s.dataset) for s in sections if s.kind == "detection"}
    fresh = [_section(name, numbers) for name in numbers.datasets() if name not in measured]
    return [*sections, *(section for section in fresh if section.rows)]


def _section(dataset: str, numbers: PublishedNumbers) -> Section:
    columns = [
        Column(
            name=name,
            version=about.metric.version,
            higher_is_better=about.metric.higher_is_better,
            about=about,
        )
        for name, about in metrics.columns("image", "pixel").items()
        if numbers.methods(dataset, name)
    ]
    names = sorted(numbers.categories(dataset))
    section = Section(
        kind="detection",
        dataset=dataset,
        networks={},
        image_size=None,
        columns=columns,
        categories={name: category_kind(dataset, name) for name in names},
        groups=["mean"],
        rows=[],
    )
    section.rows += _rows(section, numbers)
    return section


def _rows(section: Section, numbers: PublishedNumbers) -> list[Row]:
    own = {name for row in section.rows for name in numbers.names(row.method, row.source)}
    columns = {c.name for c in section.columns}
    rows = []
    for method in numbers.methods(section.dataset, *columns):
        if method in own:
            continue
        places: dict[str, None] = {}

        def cells(
            where: str, method: str = method, places: dict[str, None] = places
        ) -> dict[str, Cell]:
            found = {}
            for c in section.columns:
                # The mean over a dataset's only category is that category.
                alone = where == "mean" and len(numbers.categories(section.dataset)) == 1
                place = min(numbers.categories(section.dataset)) if alone else where
                value = numbers.find(section.dataset, place, method, "none", c.name)
                found[c.key] = Cell(mean=None, reason=REASON, published=value)
                if value is not None:
                    places.setdefault(value.place)
            return found

        groups = {group: cells(group) for group in section.groups if group in MEANS}
        by_category = {name: cells(name) for name in section.categories}
        held = {n: c for n, c in by_category.items() if any(v.published for v in c.values())}
        if not places:
            continue
        rows.append(
            Row(
                method=method,
                source="none",
                protocol={"published_in": list(places)},
                seeds=(),
                categories=held,
                groups=groups,
                complete=False,
                records=[],
                notes=(),
                superseded=0,
            )
        )
    return sorted(rows, key=lambda row: row.method)
