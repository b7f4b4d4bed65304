"""The score above which an image is called anomalous, and what may be promised of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.prediction import Decision
from detector.scorefile import IMAGE_SCORES
from sia_gen.core.errors import UserError


def threshold_of(reference: list[float], false_alarms: float) -> float:
    """Returns the score that at most this share of the reference images exceeds.

    It is the ceil((n + 1)(1 - share))-th smallest score (split conformal), or the largest where n
    is too small for that: see `promised`.
    """
    ordered = sorted(reference)
    rank = int(np.ceil((len(ordered) + 1) * (1 - false_alarms)))
    return ordered[min(rank, len(ordered)) - 1]


def promised(images: int, held_out: bool, false_alarms: float) -> float | None:
    """Returns the false-alarm rate on new normal images that the threshold keeps on average.

    The largest of n held-out scores is exceeded by a new one with probability 1 / (n + 1), so few
    images cannot promise a low rate. Scores of images that were trained on promise nothing: None.
    """
    return max(false_alarms, 1 / (images + 1)) if held_out else None


def _origin(images: int, held_out: bool, false_alarms: float) -> str:
    rate = promised(images, held_out, false_alarms)
    if rate is None:
        return (
            f"{images} training (seen) images at false alarm rate {false_alarms:g}: no promise for"
            " new ones, train with --holdout for that"
        )
    text = f"{images} held-out normal images at false alarm rate {false_alarms:g}"
    if rate > false_alarms:
        least = int(np.ceil(1 / false_alarms)) - 1
        text += f": too few, they promise {rate:.3g} only ({least} are needed)"
    return text


def decide(
    facts: dict[str, Any], image_score: str | None, false_alarms: float, least_area: int = 1
) -> Decision:
    """Returns a checkpoint's decision, calibrated by the scores of its reference images.

    Without an image score it is the one that the recipe chose.
    """
    image_score = image_score or str(facts["options"].get("image_score", "max"))
    if not 0 < false_alarms < 1:
        raise UserError(f"false alarm rate {false_alarms} is not between 0 and 1")
    if image_score not in IMAGE_SCORES:
        raise UserError(f"image score {image_score!r} is not one of {', '.join(IMAGE_SCORES)}")
    reference = facts["reference"]
    if f"score_{image_score}" not in reference:
        raise UserError(
            f"the checkpoint was made by an older version and has no score {image_score}: train"
            " again, or give another image score"
        )
    scores, held_out = reference[f"score_{image_score}"], reference["images"] == "held-out"
    return Decision(
        threshold=threshold_of(scores, false_alarms),
        promise=promised(len(scores), held_out, false_alarms),
        origin=_origin(len(scores), held_out, false_alarms),
        image_score=image_score,
        least_area=least_area,
    )
