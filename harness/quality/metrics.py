"""The quality metrics of one category over one feature network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.measure.entry import undefined, value_of
from harness.metrics import clustered_lpips
from harness.metrics._inputs import UndefinedMetric
from harness.quality.features import FeatureNetwork, Features
from harness.quality.nearest import closest_pairs, picture
from sia_gen.core.pixels.images import resize_image

if TYPE_CHECKING:
    from harness.quality.run import Sets

POOLED = ("fid", "kid", "density", "coverage", "memorisation")


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
    """Returns FID and KID of the three comparisons, density, coverage and memorisation."""
    synthetic, anomalous, held_out = features.synthetic, features.anomalous, features.held_out
    pairs: dict[str, tuple[Features, Features]] = {
        "": (synthetic, anomalous),
        "_to_normal": (synthetic, held_out),
        "_reference": (features.thinned, held_out),
    }
    found = {}
    for suffix, (first, second) in pairs.items():
        n = (len(first), len(second))
        for metric in ("fid", "kid"):
            name = f"{metric}{suffix}@{network.name}"
            if min(n) < 2:
                reason = f"{metric} needs two images in each set, found {n[0]} and {n[1]}"
                found[name] = undefined(metric, reason, n=n)
            else:
                found[name] = value_of(metric, (first, second), n=n)
    n = (len(synthetic), len(anomalous))
    for metric in ("density", "coverage"):
        name = f"{metric}@{network.name}"
        if not n[1]:  # an empty set has no dimensions to compare
            found[name] = undefined(metric, "there is no real anomaly: undefined", n=n)
        else:
            found[name] = value_of(metric, (synthetic, anomalous), n=n)
    three = (len(synthetic), len(features.train), len(held_out))
    name = f"memorisation@{network.name}"
    if not len(held_out):
        found[name] = undefined("memorisation", "there is no held-out normal image", n=three)
    else:
        found[name] = value_of("memorisation", (synthetic, features.train, held_out), n=three)
    return found


def nearest_pictures(
    network: FeatureNetwork, sets: Sets, features: SetFeatures
) -> list[tuple[dict[str, Any], bytes]]:
    """Returns (facts, JPEG) of the synthetic images that are nearest to a training image."""
    found = []
    for pair in closest_pairs(features.synthetic, features.train):
        index, path = sets.chosen[pair.synthetic], sets.train[pair.train]
        image = resize_image(sets.synthetic.image(index), sets.size)
        facts = {
            "synthetic": sets.synthetic.members[index].key,
            "train": path.name,
            "distance": pair.distance,
            "network": network.name,
        }
        found.append((facts, picture(image, sets.read(path))))
    return found


def diversity(network: FeatureNetwork, sets: Sets) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns clustered LPIPS, named with the network, and the numbers of clusters.

    Synthetic images stream through in blocks: no pair of images is held.
    """
    name, n = f"clustered_lpips@{network.name}", (len(sets.chosen), len(sets.anomalous))
    try:
        centres = network.embedded(sets.real_images(sets.anomalous))
        clusters = clustered_lpips.Clusters(centres)
        for block in network.embeddings(sets.synthetic_images()):
            clusters.update(block)
        result = clusters.result()
    except UndefinedMetric as error:
        return {name: undefined("clustered_lpips", str(error), n=n)}, {}
    entry = undefined("clustered_lpips", "-", n=n) | {"value": result.value}
    del entry["reason"]
    counts = {
        "clusters_used": result.clusters,
        "clusters_skipped_single": result.single,
        "clusters_skipped_empty": result.empty,
    }
    return {name: entry}, {f"{key}@{network.name}": value for key, value in counts.items()}
