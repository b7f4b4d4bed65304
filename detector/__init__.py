"""Detectors of anomalies: loading one and asking it about images (docs/python.md).

Whatever is not named here may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sia_gen.core.lazy import attach

if TYPE_CHECKING:
    from detector.api import Detector
    from detector.prediction import Box, Prediction

__all__ = ["Box", "Detector", "Prediction"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Box": "detector.prediction",
        "Detector": "detector.api",
        "Prediction": "detector.prediction",
    },
)
