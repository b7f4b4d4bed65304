"""The registry of metrics: one file each, harness/metrics/NAME.py, which sets `METRIC`.

Everything that speaks of metrics reads this: evaluation and its intervals, records, leaderboard,
exports, page, published numbers, `reproduce`, the torchmetrics classes. A change of definition
raises `version`, and values of two versions never share a column. Where a value does not exist
(one class only), UndefinedMetric is raised: nothing is called 0 that was not measured to be 0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sia_gen.core import plugins
from sia_gen.core.errors import UserError
from sia_gen.core.statistics import draws, pixels
from sia_gen.core.statistics.inputs import Floats, binary, real, same_shape
from sia_gen.core.statistics.ranking import Ranking, rank

SHARE, DISTANCE, NUMBER = "%", "distance", "1"  # how a value is written: see Metric.unit
KINDS = ("image", "pixel", "quality")


def _images(scores: Any, labels: Any) -> tuple[Any, Any]:
    values, truth = real(scores, "image scores"), binary(labels, "image labels")
    same_shape(values, truth, "image scores and labels")
    return values, truth


# What `of` gets of the arrays that `compute` is given, and the kind of metric it makes.
TAKES: dict[str, tuple[str, Callable[..., tuple[Any, ...]]]] = {
    "image ranking": ("image", lambda scores, labels: (rank(*_images(scores, labels)),)),
    "image scores": ("image", _images),
    "pixel ranking": ("pixel", lambda maps, masks: (pixels.rank_both(maps, masks)[0],)),
    "region ranking": ("pixel", lambda maps, masks: (pixels.rank_both(maps, masks)[1],)),
    "score maps": ("pixel", pixels.checked),
    "features": ("quality", lambda *sets: sets),
    "embeddings": ("quality", lambda *sets: sets),
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One column of a metric: what its names add to the metric's, and what it is computed from."""

    suffix: str = ""
    short: str = ""
    detail: str = ""
    inputs: tuple[str, ...] = ()  # image: the score convention; quality: the sets of images
    arguments: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False  # not every record has it
    reference: bool = False  # says what real images give, and is nobody's merit


ONE = (Variant(),)
SCORES = (
    Variant(suffix="_max", detail="map maximum", inputs=("max",)),
    Variant(suffix="_avgpool16_max", short="/16", detail="16 × 16 means",  # noqa: RUF001
            inputs=("avgpool16_max",)),
    Variant(suffix="_own", short="/own", detail="its own scores", inputs=("own",), optional=True),
)  # fmt: skip
TO_ANOMALIES = (Variant(inputs=("synthetic", "anomalous")),)
COMPARISONS = (
    Variant(detail="synthetic – real anomalies", inputs=("synthetic", "anomalous")),  # noqa: RUF001
    Variant(suffix="_to_normal", short=" norm", detail="synthetic – held-out normals",  # noqa: RUF001
            inputs=("synthetic", "held_out")),
    Variant(suffix="_reference", short=" ref", detail="reference: two sets of normals",
            inputs=("thinned", "held_out"), reference=True),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as its file describes it; `of` computes it from what `takes` names (TAKES)."""

    name: str  # the file's, and in records
    title: str
    short: str  # a table's heading
    detail: str = ""
    unit: str  # SHARE: 0..1, shown in percent; DISTANCE: two digits; NUMBER: four digits
    higher_is_better: bool
    version: int = 1
    takes: str
    of: Callable[..., float]
    # The same value of many draws of images, from counts (B, K); where absent, draw by draw.
    draws: Callable[..., Floats] | None = None
    # A class that embeddings stream through: real ones first, then `update`, `result().value`.
    stream: Callable[..., Any] | None = None
    least: int = 1  # images that each set must hold
    # Its columns; an image metric has one for each image score unless its file says otherwise.
    variants: tuple[Variant, ...] = ONE  # none: computed by name only, never a column
    place: int = 100  # among the columns of its kind
    chance: float = 0.0  # what guessing gives, the palest tint
    network: str = ""  # the feature network over which papers publish it

    def __post_init__(self) -> None:
        """Refuses a quality metric that does not say which sets of images it compares."""
        if self.kind == "image" and self.variants is ONE:
            object.__setattr__(self, "variants", SCORES)
        if self.kind == "quality" and not all(variant.inputs for variant in self.variants):
            raise UserError(f"metric {self.name}: name its sets of images, e.g. TO_ANOMALIES")

    @property
    def kind(self) -> str:
        """image, pixel or quality."""
        return TAKES[self.takes][0]

    def compute(self, *arrays: Any, **arguments: Any) -> float:
        """Returns the value for arrays: image scores and labels (N,), maps and masks (N, H, W),
        or feature sets (N, D); UserError for NaN and shapes, UndefinedMetric without a value."""
        return float(self.of(*TAKES[self.takes][1](*arrays), **arguments))

    def of_draws(self, normal_BK: Floats, hits_BK: Floats, **arguments: Any) -> Floats:
        """Returns the value of each draw from its counts by falling score, (B,)."""
        if self.draws is not None:
            return self.draws(normal_BK, hits_BK, **arguments)
        rows = zip(normal_BK, hits_BK, strict=True)
        return np.array([self.of(draws.ranking_of(n, h), **arguments) for n, h in rows])

    @property
    def ranks(self) -> bool:
        """Whether the value follows from a ranking, so that draws of images have one too."""
        return self.takes.endswith("ranking")


@dataclass(frozen=True, kw_only=True)
class MetricColumn:
    """A variant of a metric: what tables, pages and exports say of one column."""

    metric: Metric
    variant: Variant

    @property
    def name(self) -> str:
        """The name in records, without a network's."""
        return self.metric.name + self.variant.suffix

    @property
    def short(self) -> str:
        """A table's heading."""
        return self.metric.short + self.variant.short

    @property
    def detail(self) -> str:
        """What a page says below the title."""
        return ", ".join(filter(None, (self.metric.detail, self.variant.detail)))

    @property
    def order(self) -> tuple[int, int, int]:
        """The place among all columns; comparisons of image sets stand together."""
        metric = self.metric
        place = (metric.place, metric.variants.index(self.variant))
        return (KINDS.index(metric.kind), *(place[::-1] if metric.kind == "quality" else place))


def names() -> list[str]:
    """Returns the names of all metrics, sorted."""
    return plugins.names(sys.modules[__name__])


def load(name: str) -> Metric:
    """Returns a metric by its name; UserError where there is no such file or it sets no METRIC."""
    module = plugins.load(sys.modules[__name__], name)
    found = getattr(module, "METRIC", None)
    if not isinstance(found, Metric) or found.name != name:
        raise UserError(f"{module.__file__}: expected METRIC = Metric(name={name!r}, ...)")
    return found


def of_kind(*kinds: str) -> list[Metric]:
    """Returns the metrics of some kinds in the order of their places."""
    found = [load(name) for name in names()]
    return sorted((m for m in found if m.kind in kinds), key=lambda m: (m.place, m.name))


def columns(*kinds: str) -> dict[str, MetricColumn]:
    """Returns the columns of some kinds (all where none is named) by name, in their order."""
    made = [
        MetricColumn(metric=metric, variant=variant)
        for metric in of_kind(*(kinds or KINDS))
        for variant in metric.variants
    ]
    return {column.name: column for column in sorted(made, key=lambda c: c.order)}


__all__ = ["Metric", "MetricColumn", "Ranking", "Variant", "columns", "load", "names", "of_kind"]
