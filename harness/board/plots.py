"""Small line plots as data for inline SVG: the template draws, nothing here knows a colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.board.words import Row, Section
from harness.records import Record

WIDTH, HEIGHT = 300, 232
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 14, 38
COLOURS = 8  # line classes c0 .. c7 of the page; later lines are dashed
Series = tuple[str, int, list[float], list[float], list[str]]  # name, place, x, y, mark texts

CURVES = {
    "image_roc_max": ("Image ROC", "false-positive rate", "true-positive rate", 1.0),
    "pixel_roc": ("Pixel ROC", "false-positive rate", "true-positive rate", 1.0),
    "pro": ("PRO curve", "false-positive rate", "mean region overlap", 0.3),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: its name, its class, its corners in the picture, and its own points if marked."""

    name: str
    place: int
    points: str
    marks: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture of lines with ticks, (position, text), on both axes."""

    title: str
    x_name: str
    y_name: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    diagonal: bool = False

    width = WIDTH
    height = HEIGHT
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM


def _scale(value: float, low: float, high: float, start: float, end: float) -> float:
    return round(start + (value - low) / (high - low) * (end - start), 2)


def _at(
    x: float, y: float, xs: tuple[float, float], ys: tuple[float, float]
) -> tuple[float, float]:
    return (
        _scale(x, *xs, LEFT, WIDTH - RIGHT),
        _scale(y, *ys, HEIGHT - BOTTOM, TOP),
    )


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Returns round numbers within a range, about `count` of them."""
    span = high - low
    step = 10.0 ** len(str(int(span))) if span >= 1 else 1.0
    while span / step < count:
        for factor in (2.0, 2.5, 2.0):  # 10, 5, 2, 1
            step /= factor
            if span / step >= count:
                break
    first = -(-low // step) * step
    found = []
    while first <= high + 1e-9 * span:
        found.append(round(first, 12) + 0.0)
        first += step
    return found


def _padded(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or abs(high) * 0.1 or 0.5
    return low - pad, high + pad


def plot(
    title: str,
    names: tuple[str, str],
    series: list[Series],
    xs: tuple[float, float],
    ys: tuple[float, float],
    *,
    diagonal: bool = False,
) -> Plot:
    """Returns a plot of (name, place, x, y, mark texts) series over given ranges."""
    lines = []
    for name, place, x, y, texts in series:
        corners = [_at(a, b, xs, ys) for a, b in zip(x, y, strict=True)]
        lines.append(
            Line(
                name=name,
                place=place,
                points=" ".join(f"{a:g},{b:g}" for a, b in corners),
                marks=tuple((a, b, t) for (a, b), t in zip(corners, texts, strict=False)),
            )
        )
    return Plot(
        title=title,
        x_name=names[0],
        y_name=names[1],
        x_ticks=tuple((_at(t, ys[0], xs, ys)[0], f"{t:g}") for t in _ticks(*xs)),
        y_ticks=tuple((_at(xs[0], t, xs, ys)[1], f"{t:g}") for t in _ticks(*ys)),
        lines=tuple(lines),
        diagonal=diagonal,
    )


def first_record(row: Row, category: str) -> Record | None:
    """Returns the newest record of a row's first seed: one run's curves stand for the row."""
    held = [r for _, r in row.records if r["category"] == category]
    if not held:
        return None
    first = min((r["seed"] for r in held), key=lambda s: (s is None, s or 0))
    return [r for r in held if r["seed"] == first][-1]


def curves(section: Section, category: str) -> list[Plot]:
    """Returns the ROC and PRO plots of a category, a line a row; rows without curves have none."""
    found = []
    for key, (title, x_name, y_name, limit) in CURVES.items():
        series: list[Series] = []
        for place, row in enumerate(section.rows):
            record = first_record(row, category)
            curve = (record or {}).get("artifacts", {}).get("curves", {}).get(key)
            if curve:
                series.append((row.name, place, list(curve[0]), list(curve[1]), []))
        if series:
            names = (x_name, y_name)
            found.append(plot(title, names, series, (0.0, limit), (0.0, 1.0), diagonal=limit == 1))
    return found


def strengths(section: Section, category: str) -> list[Plot]:
    """Returns plots of KID by strength, a line a row, for each network and comparison."""
    found = []
    points: dict[tuple[str, str], list[tuple[str, int, list[dict[str, Any]]]]] = {}
    for place, row in enumerate(section.rows):
        record = first_record(row, category)
        for point in (record or {}).get("artifacts", {}).get("strength", []):
            for name in ("kid", "kid_to_normal"):
                if point.get(name) is not None:
                    rows = points.setdefault((str(point["network"]), name), [])
                    if not rows or rows[-1][1] != place:
                        rows.append((row.name, place, []))
                    rows[-1][2].append(point)
    what = {"kid": "KID to real anomalies", "kid_to_normal": "KID to held-out normals"}
    for (network, name), rows in points.items():
        series = []
        for label, place, held in rows:
            texts = [f"s {p['low']:.3g} to {p['high']:.3g}, {p['n']} images: {p[name]:.4g}"
                     for p in held]  # fmt: skip
            x, y = [float(p["mean"]) for p in held], [float(p[name]) for p in held]
            series.append((label, place, x, y, texts))
        xs = _padded([x for s in series for x in s[2]])
        ys = _padded([y for s in series for y in s[3]])
        found.append(plot(f"{what[name]} ({network})", ("strength s", "KID"), series, xs, ys))
    return found
