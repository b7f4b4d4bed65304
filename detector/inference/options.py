"""What a prediction is asked to do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from detector.words import IMAGE_SCORES
from sia_gen.core import shared_options
from sia_gen.core.options import Checked, option

MAPS = ("none", "png16", "npy")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Checked):
    """How to decide and what to write."""

    image_score: str | None = option(
        None,
        "An image's score: the map's maximum, that of its 16 x 16 window means, or the mean of its"
        " highest hundredth.",
        choices=IMAGE_SCORES,
        shown="the recipe's",
    )
    false_alarms: float = option(
        0.05, "Share of normal images that may be called anomalous.", above=0, below=1
    )
    precision: str = option("fp32", "Precision of the network.", choices=("fp32", "bf16", "fp16"))
    overlays: bool = option(
        True, "Draw image, heat map and both together.", flag="--overlays/--no-overlays"
    )
    shown: int = option(512, "Longest side of an overlay's parts, in pixels.", low=16)
    maps: str = option(
        "none",
        "Write score maps at the image's size: 16-bit gray PNG, or float32 npy.",
        choices=MAPS,
    )
    masks: bool = option(False, "Write where maps exceed the threshold, as PNG of 0 and 255.")
    boxes: bool = option(False, "Write the masks' regions as COCO JSON (boxes.json).")
    least_area: int = option(1, "Pixels of the smallest region that counts.", low=1)
    steps: bool = option(False, "Draw the model's own steps too, where it shows any.")
    watch: float = option(
        0.0,
        "Keep looking into the folder, with so many seconds between looks.",
        low=0,
        metavar="SECONDS",
        shown="one look",
    )
    device: str = shared_options.device()

    def identity(self) -> dict[str, Any]:
        """Returns the options that decide what the files hold."""
        free = {"device", "watch"}
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in free}
