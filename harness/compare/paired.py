"""Two detectors on the same test images: which differences would other images of the kind keep?

Both are drawn the same images again and again (a paired bootstrap): what makes an image hard for
both cancels out. Beside it the images that flip: right in one and wrong in the other, each at its
own threshold of best F1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import scorefile
from harness import metrics
from harness.measure import bootstrap
from harness.measure.detection import checked, find_score_folders
from harness.metrics import MetricColumn, Ranking
from harness.records import read
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import Floats, UndefinedMetric
from sia_gen.core.statistics.pixels import rank_both
from sia_gen.core.statistics.ranking import rank


@dataclass(frozen=True, kw_only=True)
class Side:
    """One detector's scores of one category, its images in the order of the comparison."""

    folder: Path
    scores: scorefile.Scores

    @property
    def name(self) -> str:
        """What the detector is called."""
        protocol = self.scores.protocol
        method = str(protocol.get("detector", "unnamed"))
        source = str(protocol.get("source") or "none")
        return method if source in {"none", method} else f"{method} + {source}"

    def image_scores(self, kind: str) -> Floats:
        """Returns the images' scores by a convention, (N,)."""
        key = f"score_{kind}"
        if any(key not in item for item in self.scores.items):
            raise UserError(f"{self.folder}: the images have no {key}: give another --image-score")
        return np.array([float(item[key]) for item in self.scores.items])


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of both, their difference (B minus A) and how sure it is."""

    metric: str
    a: float
    b: float
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        """B minus A."""
        return self.b - self.a

    @property
    def clear(self) -> bool:
        """Whether the 95 % interval leaves out 0."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image that one detector judges rightly and the other wrongly; shares rank its scores."""

    index: int
    path: str
    defect: str
    anomalous: bool
    right: str  # "a" or "b"
    share_a: float  # share of all test images that score no higher
    share_b: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Both detectors on one category."""

    category: str
    a: Side
    b: Side
    images: int
    differences: list[Difference]
    flips: list[Flip]
    p_flips: float
    undefined: dict[str, str]
    replicates: dict[str, Floats]


def _key(item: dict[str, Any]) -> str:
    path = PurePosixPath(str(item["path"]).replace("\\", "/"))
    return f"{item['defect']}/{path.stem}"


def open_sides(path: Path) -> dict[str, Side]:
    """Returns the sides that a path names, by category: score folders, or a record's own."""
    if path.is_file() and path.suffix == ".json" and path.parent.name == "records":
        record = read(path)
        folder = record["artifacts"].get("scores")
        if record["kind"] != "detection" or not folder:
            raise UserError(f"{path} is no detection record: two detectors are compared")
        path = Path(folder)
    found: dict[str, Side] = {}
    for folder in find_score_folders([path]):
        scores = checked(folder)
        if scores.category in found:
            raise UserError(
                f"{path} holds two score folders of {scores.category}:"
                f" {found[scores.category].folder} and {folder}; name one"
            )
        found[scores.category] = Side(folder=folder, scores=scores)
    return found


def _aligned(a: Side, b: Side) -> Side:
    """Returns B with its images in A's order; UserError where they are not the same images."""
    places = {_key(item): i for i, item in enumerate(b.scores.items)}
    wanted = [_key(item) for item in a.scores.items]
    if len(places) != len(b.scores.items) or set(places) != set(wanted):
        only = sorted(set(places) ^ set(wanted))
        raise UserError(
            f"{a.folder} and {b.folder} are of different images of {a.scores.category}:"
            f" {len(only)} are in one of them only, first {only[0] if only else '(doubled)'};"
            " results of another split are not compared"
        )
    order = [places[key] for key in wanted]
    items = [b.scores.items[i] for i in order]
    unlike = next(
        (w for w, x, y in zip(wanted, a.scores.items, items, strict=True)
         if bool(x["anomalous"]) != bool(y["anomalous"])), None)  # fmt: skip
    if unlike is not None:
        raise UserError(f"{a.folder} and {b.folder} disagree on whether {unlike} is anomalous")
    scores = scorefile.Scores(
        category=b.scores.category,
        maps_NHW=b.scores.maps_NHW[order],
        masks_NHW=b.scores.masks_NHW[order],
        items=items,
        protocol=b.scores.protocol,
        run=b.scores.run,
    )
    return Side(folder=b.folder, scores=scores)


def _usable(side: Side) -> npt.NDArray[np.bool_]:
    drawn = np.array([bool(np.any(mask)) for mask in side.scores.masks_NHW])
    return np.array([
        not item["anomalous"] or (bool(item["has_mask"]) and has)
        for item, has in zip(side.scores.items, drawn, strict=True)
    ])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Valued:
    """One side's value of a column, and what its draws are made of."""

    column: MetricColumn
    value: float
    counts: bootstrap.Counts

    def drawn(self, times: Floats) -> Floats:
        """Returns the value in every draw, moved from the counts' grid to the exact one."""
        grid = bootstrap.replicate(self.counts, np.ones((1, times.shape[1])), self.column)
        return bootstrap.replicate(self.counts, times, self.column) - float(grid[0]) + self.value


def _valued(
    columns: Iterable[MetricColumn], rankings: dict[str, Ranking], counts: bootstrap.Counts
) -> dict[str, Valued]:
    return {
        column.name: Valued(
            column=column,
            value=column.metric.of(rankings[column.metric.takes], **column.variant.arguments),
            counts=counts,
        )
        for column in columns
    }


def _ranked(kind: str) -> list[MetricColumn]:
    return [c for c in metrics.columns(kind).values() if c.metric.ranks]


def _image_part(side: Side, kind: str, labels: npt.NDArray[np.bool_]) -> dict[str, Valued]:
    scores = side.image_scores(kind)
    columns = [c for c in _ranked("image") if c.variant.inputs == (kind,)]
    counts = bootstrap.count_images(scores, labels)
    return _valued(columns, {"image ranking": rank(scores, labels)}, counts)


def _pixel_part(side: Side, keep: npt.NDArray[np.bool_]) -> dict[str, Valued]:
    labels = np.array([bool(item["anomalous"]) for item in side.scores.items])[keep]
    maps, masks = side.scores.maps_NHW[keep], side.scores.masks_NHW[keep]
    rankings = dict(zip(("pixel ranking", "region ranking"), rank_both(maps, masks), strict=True))
    cuts = bootstrap.cuts_of(rankings["pixel ranking"])
    return _valued(_ranked("pixel"), rankings, bootstrap.count_pixels(maps, masks, labels, cuts))


def _difference(name: str, a: Valued, b: Valued, times: Floats) -> tuple[Difference, Floats]:
    apart = b.drawn(times) - a.drawn(times)
    return _judged(name, a.value, b.value, apart), apart


def _judged(name: str, a: float, b: float, apart: Floats) -> Difference:
    tail = (1.0 - bootstrap.LEVEL) / 2.0
    low, high = (float(q) for q in np.quantile(apart, [tail, 1.0 - tail]))
    beyond = min(int((apart <= 0).sum()), int((apart >= 0).sum()))
    p = min(1.0, 2.0 * (beyond + 1) / (len(apart) + 1))
    return Difference(metric=name, a=a, b=b, low=low, high=high, p=p)


def threshold(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    """Returns the score from which images count as anomalous for the best F1 on these images."""
    ranking = rank(scores, labels)
    hits = np.cumsum(ranking.weights[::-1])
    f1 = 2.0 * hits / (hits[-1] + hits + ranking.not_below[::-1])
    return float(ranking.thresholds[::-1][int(f1.argmax())])


def _flips(a: Side, b: Side, kind: str, labels: npt.NDArray[np.bool_]) -> tuple[list[Flip], float]:
    sides = [side.image_scores(kind) for side in (a, b)]
    right = [(scores >= threshold(scores, labels)) == labels for scores in sides]
    shares = [np.searchsorted(np.sort(s), s, side="right") / len(s) for s in sides]
    found = [
        Flip(
            index=int(i),
            path=str(a.scores.items[i]["path"]),
            defect=str(a.scores.items[i]["defect"]),
            anomalous=bool(labels[i]),
            right="b" if right[1][i] else "a",
            share_a=float(shares[0][i]),
            share_b=float(shares[1][i]),
        )
        for i in np.flatnonzero(right[0] != right[1])
    ]
    found.sort(key=lambda f: (f.right, -abs(f.share_b - f.share_a), f.index))
    # McNemar's exact test: among images that flip, either direction is as likely.
    n, k = len(found), sum(f.right == "b" for f in found)
    tail = sum(math.comb(n, i) for i in range(min(k, n - k) + 1)) / 2.0**n
    return found, min(1.0, 2.0 * tail)


def compare(a: Side, b: Side, kind: str = "max") -> Comparison:
    """Returns both detectors on one category; UserError where their images differ."""
    b = _aligned(a, b)
    labels = np.array([bool(item["anomalous"]) for item in a.scores.items])
    if labels.all() or not labels.any():
        raise UserError(f"{a.folder}: the test images are all of one class: nothing to compare")
    times = bootstrap.draws(labels, a.scores.category, "compare")
    parts = [(_image_part(a, kind, labels), _image_part(b, kind, labels), times)]
    keep = _usable(a) & _usable(b)
    undefined = {}
    try:
        parts.append((_pixel_part(a, keep), _pixel_part(b, keep), times[:, keep]))
    except UndefinedMetric as error:
        undefined = {column.name: str(error) for column in _ranked("pixel")}
    differences, replicates = [], {}
    for first, second, drawn in parts:
        for name in first:
            judged, replicates[name] = _difference(name, first[name], second[name], drawn)
            differences.append(judged)
    flips, p = _flips(a, b, kind, labels)
    return Comparison(
        category=a.scores.category,
        a=a,
        b=b,
        images=len(labels),
        differences=differences,
        flips=flips,
        p_flips=p,
        undefined=undefined,
        replicates=replicates,
    )


def over_categories(found: list[Comparison]) -> list[Difference]:
    """Returns the differences of the unweighted means over categories, drawn independently."""
    shared = [n for n in found[0].replicates if all(n in c.replicates for c in found)]
    out = []
    for name in shared:
        values = [next(d for d in c.differences if d.metric == name) for c in found]
        # Each category is drawn by its own seed, so that row r of one is independent of another's.
        apart = np.mean([c.replicates[name] for c in found], axis=0)
        a, b = (float(np.mean([getattr(d, side) for d in values])) for side in ("a", "b"))
        out.append(_judged(name, a, b, np.asarray(apart)))
    return out


def run(a: Path, b: Path, kind: str = "max") -> tuple[list[Comparison], list[str]]:
    """Returns the comparisons of the categories that both hold, and notes on the others."""
    sides = (open_sides(a), open_sides(b))
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        raise UserError(
            f"{a} and {b} have no category in common: {', '.join(sorted(sides[0]))} and"
            f" {', '.join(sorted(sides[1]))}"
        )
    each = ((sides[0], sides[1], a), (sides[1], sides[0], b))
    notes = [
        f"{k}: only in {place}" for own, other, place in each for k in sorted(own.keys() - other)
    ]
    return [compare(sides[0][key], sides[1][key], kind) for key in shared], notes


def as_document(found: list[Comparison], notes: Iterable[str]) -> dict[str, Any]:
    """Returns comparisons as a JSON value; differences are B minus A, shares 0..1."""

    def listed(differences: list[Difference]) -> list[dict[str, Any]]:
        return [
            {"metric": d.metric, "a": d.a, "b": d.b, "difference": d.value,
             "interval": [d.low, d.high], "p": d.p} for d in differences
        ]  # fmt: skip

    return {
        "schema": 1,
        "a": found[0].a.name,
        "b": found[0].b.name,
        "replicates": bootstrap.REPLICATES,
        "categories": [
            {
                "category": c.category,
                "images": c.images,
                "scores": [str(c.a.folder), str(c.b.folder)],
                "differences": listed(c.differences),
                "undefined": c.undefined,
                "flips": [
                    {"path": f.path, "defect": f.defect, "anomalous": f.anomalous,
                     "right": f.right, "share_a": f.share_a, "share_b": f.share_b}
                    for f in c.flips
                ],
                "flips_p": c.p_flips,
            }
            for c in found
        ],
        "mean": listed(over_categories(found)),
        "notes": list(notes),
    }  # fmt: skip
