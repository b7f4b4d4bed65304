"""The quality metrics of one category over one feature network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from harness import metrics
from harness.measure.entry import undefined, value_of
from harness.quality.features import FeatureNetwork, Features
from harness.quality.nearest import closest_pairs, picture
from harness.quality.sets import Sets
from harness.torchmetrics import FeatureMetric
from sia_gen.core.pixels.images import resize_image
from sia_gen.core.statistics.inputs import UndefinedMetric


@dataclass(frozen=True, kw_only=True)
class SetFeatures:
    """Pooled features (N, D) of the sets; `thinned` is the part of `train` as many as synthetic."""

    synthetic: Features
    anomalous: Features
    held_out: Features
    train: Features
    thinned: Features


def pooled(network: FeatureNetwork, sets: Sets) -> SetFeatures:
    """Returns the pooled features of all sets of a category."""
    train = network.pooled(sets.real_images(sets.train))
    return SetFeatures(
        synthetic=network.pooled(sets.synthetic_images()),
        anomalous=network.pooled(sets.real_images(sets.anomalous)),
        held_out=network.pooled(sets.real_images(sets.held_out)),
        train=train,
        thinned=train[list(sets.thinned)],
    )


def distances(network: FeatureNetwork, features: SetFeatures) -> dict[str, Any]:
    """Returns the metrics of pooled features, each over its sets, named with the network."""
    found = {}
    for column in metrics.columns("quality").values():
        if column.metric.takes != "features":
            continue
        sets = [getattr(features, name) for name in column.variant.inputs]
        n, least = [len(each) for each in sets], column.metric.least
        name = f"{column.name}@{network.name}"
        if min(n) < least:  # an empty set has no dimensions to compare
            counted = ", ".join(map(str, n))
            reason = f"{column.metric.name} needs {least} images in each set, found {counted}"
            found[name] = undefined(column.metric, reason, n=n)
        else:
            metric = FeatureMetric(column.metric.name, **column.variant.arguments)
            for role, each in zip(metric.sets, sets, strict=True):
                metric.update(torch.from_numpy(each), of=role)
            found[name] = value_of(column.metric, partial(_value, metric), n)
    return found


def _value(metric: FeatureMetric) -> float:
    return float(metric.compute())


def nearest_pictures(
    network: FeatureNetwork, sets: Sets, features: SetFeatures
) -> list[tuple[dict[str, Any], bytes]]:
    """Returns (facts, JPEG) of the synthetic images that are nearest to a training image."""
    found = []
    pairs = closest_pairs(features.synthetic, features.train)
    images = sets.synthetic.some({sets.chosen[pair.synthetic] for pair in pairs})
    for pair in pairs:
        index, path = sets.chosen[pair.synthetic], sets.train[pair.train]
        image = resize_image(images[index], sets.size)
        facts = {
            "synthetic": sets.synthetic.key(index),
            "train": path.name,
            "distance": pair.distance,
            "network": network.name,
        }
        found.append((facts, picture(image, sets.read(path))))
    return found


def diversity(network: FeatureNetwork, sets: Sets) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns the metrics that embeddings stream through, and the numbers of their clusters.

    Synthetic images pass in blocks: no pair of images is held. FeatureMetric would hold every
    embedding: MB an image, where this holds a mean for each real anomaly.
    """
    n, found = (len(sets.chosen), len(sets.anomalous)), {}
    counts: dict[str, int] = {}
    for metric in metrics.of_kind("quality"):
        if metric.stream is None:
            continue
        name = f"{metric.name}@{network.name}"
        try:
            streamed = metric.stream(network.embedded(sets.real_images(sets.anomalous)))
            for block in network.embeddings(sets.synthetic_images()):
                streamed.update(block)
            result = streamed.result()
        except UndefinedMetric as error:
            found[name] = undefined(metric, str(error), n=n)
            continue
        found[name] = value_of(metric, partial(float, result.value), n)
        counts |= {f"{key}@{network.name}": value for key, value in result.counts.items()}
    return found, counts
