"""The metrics of one category's scores: values, intervals over images, and curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import scorefile
from harness.measure import bootstrap
from harness.measure.curves import curve
from harness.measure.entry import entry_of, undefined
from harness.measure.streaming import histogram_of
from harness.metrics._inputs import UndefinedMetric, binary, real
from harness.metrics._pixels import rank_both
from harness.metrics._ranking import Ranking, rank

IMAGE_SCORES = ("max", "avgpool16_max")
OWN_SCORE = "own"  # a submitted detector's own image scores
# Metric module, what it asks of a ranking, and up to which false-positive rate.
IMAGE_METRICS = (("image_auroc", "auroc"), ("image_ap", "ap"), ("image_f1max", "f1max"))
PIXEL_METRICS = (
    ("pixel_auroc", "pixel_auroc", "auroc", 1.0),
    ("pixel_ap", "pixel_ap", "ap", 1.0),
    ("pixel_f1max", "pixel_f1max", "f1max", 1.0),
    ("pro_0.3", "pro", "pro", 0.3),
    ("pro_0.05", "pro", "pro", 0.05),
)
# What every record holds; one without a new metric is measured again.
EXPECTED = frozenset(
    {f"{metric}_{score}" for metric, _ in IMAGE_METRICS for score in IMAGE_SCORES}
    | {name for name, *_ in PIXEL_METRICS}
)
# Beyond so many pixels the defects alone may not fit into memory: a histogram counts instead.
LARGE = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Metrics by name, counts, curves by name ([[x], [y]]), and what a reader must know."""

    metrics: dict[str, Any]
    counts: dict[str, int]
    curves: dict[str, list[list[float]]]
    notes: list[str]


def of_ranking(ranking: Ranking, what: str, limit: float = 1.0) -> float:
    """Returns a value of a ranking: auroc, ap, f1max, or pro up to a false-positive rate."""
    if what == "ap":
        return ranking.average_precision()
    return ranking.f1_max() if what == "f1max" else ranking.area(limit)


def _split(labels: npt.NDArray[np.bool_]) -> list[int]:
    return [int(labels.sum()), int((~labels).sum())]


def _add_intervals(
    found: dict[str, Any], names: dict[str, tuple[str, float]], counts: bootstrap.Counts, seed: str
) -> None:
    if min(_split(counts.anomalous)) < 2:
        return  # one image cannot say how much images differ
    values = {n: (what, limit, found[n]["value"]) for n, (what, limit) in names.items()}
    for name, (low, high) in bootstrap.intervals(counts, values, seed).items():
        found[name]["interval"] = [low, high]


def image_metrics(items: list[Any], seed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the image metrics and the ROC curve of every score convention the items have."""
    labels = np.array([bool(item["anomalous"]) for item in items])
    found: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    own = all(f"score_{OWN_SCORE}" in item for item in items)
    for score in (*IMAGE_SCORES, *((OWN_SCORE,) if own else ())):
        values = real(np.array([float(i[f"score_{score}"]) for i in items]), "image scores")
        ranking = rank(values, labels)
        names = {f"{metric}_{score}": (what, 1.0) for metric, what in IMAGE_METRICS}
        for metric, what in IMAGE_METRICS:
            name = f"{metric}_{score}"
            try:
                value = of_ranking(ranking, what)
                found[name] = entry_of(metric, value, n=_split(labels))
            except UndefinedMetric as error:
                found[name] = undefined(metric, str(error), n=_split(labels))
        if all(found[name]["value"] is not None for name in names):
            _add_intervals(found, names, bootstrap.count_images(values, labels), seed)
            curves[f"image_roc_{score}"] = curve(ranking)
    return found, curves


def pixel_metrics(
    maps: Any, masks: Any, anomalous: npt.NDArray[np.bool_], seed: str
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Returns the pixel metrics, the ROC and PRO curves, and notes, of maps and masks (N, H, W)."""
    split = _split(anomalous)
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
        values = {
            name: of_ranking(regions if what == "pro" else pixels, what, limit)
            for name, _, what, limit in PIXEL_METRICS
        }
    except UndefinedMetric as error:
        return {n: undefined(m, str(error), n=split) for n, m, *_ in PIXEL_METRICS}, {}, notes
    found = {n: entry_of(m, values[n], n=split) for n, m, *_ in PIXEL_METRICS}
    if not notes:  # a histogram's thresholds are bins, not scores
        cuts = bootstrap.cuts_of(pixels)
        counts = bootstrap.count_pixels(maps, masks, anomalous, cuts)
        _add_intervals(found, {n: (w, at) for n, _, w, at in PIXEL_METRICS}, counts, seed)
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
        found |= {name: undefined(metric, reason) for name, metric, *_ in PIXEL_METRICS}
    counts = {
        "images": len(labels),
        "normal": int((~labels).sum()),
        "anomalous": int(labels.sum()),
        "anomalous_without_mask": left_out,
        "bootstrap_replicates": bootstrap.REPLICATES,
    }
    return Measured(metrics=found, counts=counts, curves=curves, notes=notes)
