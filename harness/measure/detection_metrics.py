"""The metrics of one category's scores: values, intervals over images, and curves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import scorefile
from harness import metrics
from harness.measure import bootstrap
from harness.measure.curves import curve
from harness.measure.entry import undefined, value_of
from harness.metrics import MetricColumn
from sia_gen.core.statistics.histogram import histogram_of
from sia_gen.core.statistics.inputs import UndefinedMetric, binary, real
from sia_gen.core.statistics.pixels import rank_both
from sia_gen.core.statistics.ranking import rank

# Beyond so many pixels the defects alone may not fit into memory: a histogram counts instead.
LARGE = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Metrics by name, counts, curves by name ([[x], [y]]), and what a reader must know."""

    metrics: dict[str, Any]
    counts: dict[str, int]
    curves: dict[str, list[list[float]]]
    notes: list[str]


def expected() -> frozenset[str]:
    """Returns the columns that every record holds; one that lacks any is measured again."""
    found = metrics.columns("image", "pixel").values()
    return frozenset(column.name for column in found if not column.variant.optional)


def image_columns(items: list[Any]) -> dict[str, list[MetricColumn]]:
    """Returns the image metrics' columns by the score convention, where all items state it."""
    found: dict[str, list[MetricColumn]] = {}
    for column in metrics.columns("image").values():
        (score,) = column.variant.inputs
        if not column.variant.optional or all(f"score_{score}" in item for item in items):
            found.setdefault(score, []).append(column)
    return found


def _split(labels: npt.NDArray[np.bool_]) -> list[int]:
    return [int(labels.sum()), int((~labels).sum())]


def _entries(
    columns: Iterable[MetricColumn], given: dict[str, tuple[Any, ...]], n: list[int]
) -> dict[str, Any]:
    """Returns the columns' entries, from what their metrics take."""
    return {
        column.name: value_of(
            column.metric,
            partial(column.metric.of, *given[column.metric.takes], **column.variant.arguments),
            n,
        )
        for column in columns
    }


def _add_intervals(
    found: dict[str, Any], columns: Iterable[MetricColumn], counts: bootstrap.Counts, seed: str
) -> None:
    if min(_split(counts.anomalous)) < 2:
        return  # one image cannot say how much images differ
    values = {name: entry["value"] for name, entry in found.items()}
    ranked = [c for c in columns if c.metric.ranks and values[c.name] is not None]
    for name, (low, high) in bootstrap.intervals(counts, values, ranked, seed).items():
        found[name]["interval"] = [low, high]


def image_metrics(items: list[Any], seed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the image metrics and the ROC curve of every score convention the items have."""
    labels = np.array([bool(item["anomalous"]) for item in items])
    found: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    for score, columns in image_columns(items).items():
        values = real(np.array([float(i[f"score_{score}"]) for i in items]), "image scores")
        ranking = rank(values, labels)
        given = {"image ranking": (ranking,), "image scores": (values, labels)}
        entries = _entries(columns, given, _split(labels))
        if labels.any() and not labels.all():
            _add_intervals(entries, columns, bootstrap.count_images(values, labels), seed)
            curves[f"image_roc_{score}"] = curve(ranking)
        found |= entries
    return found, curves


def pixel_metrics(
    maps: Any, masks: Any, anomalous: npt.NDArray[np.bool_], seed: str
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Returns the pixel metrics, the ROC and PRO curves, and notes, of maps and masks (N, H, W)."""
    split, columns = _split(anomalous), metrics.columns("pixel").values()
    notes: list[str] = []
    try:
        if np.size(maps) > LARGE:
            histogram = histogram_of(maps, masks)
            pixels, regions = histogram.rankings()
            worst = max(histogram.bounds().values())
            notes.append(f"pixel metrics of {np.size(maps)} pixels from a histogram of their"
                         f" scores: none is off by more than {worst:.2g}")  # fmt: skip
        else:
            pixels, regions = rank_both(maps, masks)
        pixels.check()
    except UndefinedMetric as error:
        return {c.name: undefined(c.metric, str(error), n=split) for c in columns}, {}, notes
    given = {"pixel ranking": (pixels,), "region ranking": (regions,), "score maps": (maps, masks)}
    found = _entries(columns, given, split)
    if not notes:  # a histogram's thresholds are bins, not scores
        cuts = bootstrap.cuts_of(pixels)
        counts = bootstrap.count_pixels(maps, masks, anomalous, cuts)
        _add_intervals(found, columns, counts, seed)
    return found, {"pixel_roc": curve(pixels), "pro": curve(regions, 0.3)}, notes


def measure(scores: scorefile.Scores) -> Measured:
    """Returns what one category's scores are worth.

    An anomalous image without mask counts for image metrics and is left out of pixel metrics.
    """
    labels = np.array([bool(item["anomalous"]) for item in scores.items])
    found, curves = image_metrics(scores.items, scores.category)
    drawn = np.array([bool(binary(mask, "mask").any()) for mask in scores.masks_NHW])
    usable = ~labels | (np.array([bool(i["has_mask"]) for i in scores.items]) & drawn)
    notes: list[str] = []
    left_out = int((~usable).sum())
    if left_out:
        notes.append(
            f"{left_out} anomalous images without mask, or with one that is empty at this size:"
            " left out of pixel metrics"
        )
    if usable.any():
        maps, masks = scores.maps_NHW, scores.masks_NHW
        if left_out:
            maps, masks = maps[usable], masks[usable]
        pixels, drawn_curves, said = pixel_metrics(maps, masks, labels[usable], scores.category)
        found |= pixels
        curves |= drawn_curves
        notes += said
    else:
        reason = "no image has a mask: the value is undefined"
        found |= {c.name: undefined(c.metric, reason) for c in metrics.columns("pixel").values()}
    counts = {
        "images": len(labels),
        "normal": int((~labels).sum()),
        "anomalous": int(labels.sum()),
        "anomalous_without_mask": left_out,
        "bootstrap_replicates": bootstrap.REPLICATES,
    }
    return Measured(metrics=found, counts=counts, curves=curves, notes=notes)
