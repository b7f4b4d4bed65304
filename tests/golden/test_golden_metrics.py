"""Metrics against the values that the RealNet authors' code gave for the same maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.scorefile import image_scores
from harness.metrics import image_auroc, pixel_ap, pixel_auroc, pro, pro_legacy_realnet
from sia_gen.core.statistics.histogram import histogram_of

TOLERANCE = 1e-5


@pytest.fixture
def arrays(golden: Path) -> dict[str, Any]:
    with np.load(golden / "metrics.npz") as file:
        return dict(file)


def test_pixel_metrics_equal_the_authors(arrays: dict[str, Any]) -> None:
    maps, masks = arrays["score_maps"], arrays["masks"]
    assert pixel_auroc.compute(maps, masks) == pytest.approx(arrays["pixel_auroc"], abs=TOLERANCE)
    assert pixel_ap.compute(maps, masks) == pytest.approx(arrays["pixel_ap"], abs=TOLERANCE)


def test_the_histogram_equals_the_authors(arrays: dict[str, Any]) -> None:
    histogram = histogram_of(arrays["score_maps"], arrays["masks"])
    assert histogram.auroc() == pytest.approx(arrays["pixel_auroc"], abs=TOLERANCE)
    exact = pro.compute(arrays["score_maps"], arrays["masks"])
    assert histogram.pro(0.3) == pytest.approx(exact, abs=TOLERANCE)


@pytest.mark.parametrize("score", ["max", "avgpool16_max"])
def test_image_auroc_equals_the_authors(arrays: dict[str, Any], score: str) -> None:
    scores = [image_scores(map_HW)[f"score_{score}"] for map_HW in arrays["score_maps"]]
    labels = arrays["masks"].any(axis=(1, 2))
    expected = float(arrays[f"image_auroc_{score}"])
    # The authors flip a value below 0.5; this project does not.
    value = image_auroc.compute(scores, labels)
    assert max(value, 1 - value) == pytest.approx(expected, abs=TOLERANCE)


def test_pro_legacy_equals_the_authors_and_exact_pro_is_near(arrays: dict[str, Any]) -> None:
    maps, masks = arrays["score_maps"], arrays["masks"]
    expected = float(arrays["pro_1000_thresholds_fpr30"])
    assert pro_legacy_realnet.compute(maps, masks) == pytest.approx(expected, abs=TOLERANCE)
    # These masks have no holes: what remains is the grid of thresholds and the end point.
    assert pro.compute(maps, masks) == pytest.approx(expected, abs=1e-3)
