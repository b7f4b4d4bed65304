"""What a detector says of one image: a score and a decision, and where: map, mask, boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from detector.engine import Answer
from detector.frame import Map
from sia_gen.core.pixels.images import Mask

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int8)


@dataclass(frozen=True, kw_only=True)
class Box:
    """A region above the threshold, in pixels of the image: its rectangle, its area, its highest
    score."""

    x: int
    y: int
    width: int
    height: int
    area: int
    score: float

    def as_list(self) -> list[float]:
        """Returns [x, y, width, height, area, score]."""
        return [self.x, self.y, self.width, self.height, self.area, round(self.score, 6)]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """When an image is anomalous: above this threshold of this score.

    `promise` is the false-alarm rate on new normal images that the threshold keeps on average;
    None where it was not calibrated on held-out images. `origin` says where it comes from.
    """

    threshold: float
    promise: float | None
    origin: str
    image_score: str = "max"
    least_area: int = 1


class Prediction:
    """One image's answer. Map, mask and boxes have the image's own size, made when asked for."""

    def __init__(self, answer: Answer, decision: Decision) -> None:
        self._answer, self.decision = answer, decision

    def __repr__(self) -> str:
        """Returns the score, the threshold and the label, for a reader."""
        return f"Prediction(score={self.score:.4f}, {self.label}, threshold={self.threshold:.4f})"

    @property
    def score(self) -> float:
        """The image score, higher is more anomalous."""
        return self._answer.scores[f"score_{self.decision.image_score}"]

    @property
    def threshold(self) -> float:
        """The score above which an image is called anomalous."""
        return self.decision.threshold

    @property
    def promise(self) -> float | None:
        """The false-alarm rate on new normal images that the threshold keeps, or None."""
        return self.decision.promise

    @property
    def anomalous(self) -> bool:
        """Whether the score exceeds the threshold."""
        return self.score > self.threshold

    @property
    def label(self) -> str:
        """`anomalous` or `normal`."""
        return "anomalous" if self.anomalous else "normal"

    @property
    def size(self) -> tuple[int, int]:
        """The image's height and width in pixels."""
        return self._answer.size

    @property
    def small(self) -> Map:
        """The map as the network gave it: R x R, or the image's size with tiles or padding."""
        return self._answer.small

    @cached_property
    def map(self) -> Map:
        """The anomaly map at the image's size, float32 (H, W)."""
        return self._answer.map()

    @cached_property
    def mask(self) -> Mask:
        """Where the map exceeds the threshold, bool (H, W), without regions that are too small."""
        return self._regions[0]

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """The mask's 8-connected regions, highest score first."""
        return self._regions[1]

    @cached_property
    def _regions(self) -> tuple[Mask, tuple[Box, ...]]:
        mask = self.map > self.threshold
        if not mask.any():
            return mask, ()
        labels, _ = ndimage.label(mask, EIGHT_NEIGHBOURS)
        found = []
        for number, place in enumerate(ndimage.find_objects(labels), start=1):
            own = labels[place] == number
            area = int(own.sum())
            if area < self.decision.least_area:
                mask[place][own] = False
                continue
            rows, columns = place
            found.append(
                Box(
                    x=columns.start,
                    y=rows.start,
                    width=columns.stop - columns.start,
                    height=rows.stop - rows.start,
                    area=area,
                    score=float(self.map[place][own].max()),
                )
            )
        found.sort(key=lambda box: -box.score)
        return mask, tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Returns what a table, a service or a log says of it: numbers and boxes, no arrays."""
        return {
            "score": self.score,
            "threshold": self.threshold,
            "decision": self.label,
            "width": self.size[1],
            "height": self.size[0],
            "area": sum(box.area for box in self.boxes),
            "boxes": [box.as_list() for box in self.boxes],
        }
