"""Memorisation: whether synthetic images lie nearer to training images than unseen real ones do.

The chance that a synthetic image is nearer to its nearest training image than a held-out normal
image is to its own, ties counting half. 1: every synthetic image is nearer than all held-out ones,
as copies are. 0.5: as near as unseen images of the same parts. Anomalies should lie below 0.5.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics import NUMBER, Metric, Variant
from sia_gen.core.statistics.inputs import UndefinedMetric, feature_pair
from sia_gen.core.statistics.neighbours import nearest
from sia_gen.core.statistics.ranking import rank


def compute(
    synthetic_features: npt.ArrayLike,
    train_features: npt.ArrayLike,
    held_out_features: npt.ArrayLike,
) -> float:
    """Returns that chance, 0..1, for features (N, D) around training ones (T, D)."""
    x, train = feature_pair(synthetic_features, train_features, "memorisation features")
    held_out, _ = feature_pair(held_out_features, train_features, "memorisation features")
    if not len(x) or not len(train) or not len(held_out):
        raise UndefinedMetric(
            f"memorisation needs synthetic, training and held-out normal images, found {len(x)},"
            f" {len(train)} and {len(held_out)}: undefined"
        )
    near = np.concatenate([nearest(x, train)[0], nearest(held_out, train)[0]])
    return rank(-near, np.arange(len(near)) < len(x)).area()


METRIC = Metric(
    name="memorisation",
    title="Memorisation",
    short="memor.",
    unit=NUMBER,
    higher_is_better=False,
    takes="features",
    of=compute,
    place=60,
    variants=(Variant(inputs=("synthetic", "train", "held_out")),),
    detail="0.5: as near to training images as unseen ones",
)
