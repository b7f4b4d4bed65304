"""Adding a metric is adding a file: it is found in records, leaderboards, exports and the page."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import metrics
from harness.board import exports, page
from harness.board.build import build
from harness.compare import paired
from harness.measure import detection
from sia_gen.core.errors import UserError

IMAGE = '''
from harness.metrics import SCORES, SHARE, Metric


def found_without_alarm(ranking):
    """Returns the share of anomalous images that score above every normal one."""
    return float(ranking.weights[ranking.not_below == 0].sum() / ranking.weights.sum())


METRIC = Metric(name="image_clear", title="Found without alarm", short="I-CLEAR", unit=SHARE,
                higher_is_better=True, takes="image ranking", of=found_without_alarm,
                variants=SCORES[:1])
'''
PIXEL = '''
from harness.metrics import NUMBER, Metric


def of_maps(maps, masks):
    """Returns the mean score of defect pixels over that of normal ones."""
    return float(maps[masks != 0].mean() / maps[masks == 0].mean())


METRIC = Metric(name="pixel_contrast", title="Contrast", short="P-CON", unit=NUMBER,
                higher_is_better=True, takes="score maps", of=of_maps)
'''


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "image_clear.py").write_text(IMAGE)
    (folder / "pixel_contrast.py").write_text(PIXEL)
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(folder)])
    yield folder
    for name in ("image_clear", "pixel_contrast"):
        sys.modules.pop(f"harness.metrics.{name}", None)
        if hasattr(metrics, name):
            delattr(metrics, name)


@pytest.mark.usefixtures("added")
def test_a_new_file_is_measured_ranked_and_exported(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = score_folder(seed=3, gain=3.0)
    results = tmp_path / "results"
    (record,) = detection.run([folder], results, each=0)
    entry = record["metrics"]["image_clear_max"]
    assert 0.0 <= entry["interval"][0] <= entry["value"] <= entry["interval"][1] <= 1.0
    contrast = record["metrics"]["pixel_contrast"]
    assert contrast["value"] > 1.0 and contrast["n"] == [6, 6] and "interval" not in contrast
    sections = build([(results, record)], rank_by="image_clear_max")
    assert sections[0].rows[0].rank == 1
    lines = list(csv.DictReader(io.StringIO(exports.as_csv(sections))))
    values = {line["metric"]: line["mean"] for line in lines if line["category"] == "mean"}
    assert float(values["image_clear_max"]) == entry["value"]
    assert "I-CLEAR" in exports.render(sections, "table")
    assert "P-CON" in exports.render(sections, "latex")
    assert "Found without alarm" in page.render(sections, [], "board")
    (side,) = paired.open_sides(folder).values()
    names = [d.metric for d in paired.compare(side, side).differences]
    assert "image_clear_max" in names and "pixel_contrast" not in names


def test_a_record_without_a_new_metric_is_measured_again_and_still_read(
    score_folder: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    results = tmp_path / "results"
    (old,) = detection.run([score_folder(seed=3)], results, each=0)
    request.getfixturevalue("added")
    said: list[str] = []
    (fresh,) = detection.run([tmp_path / "run"], results, each=0, tell=said.append)
    assert said == ["toys/duck realnet: measured"]
    (section,) = build([(results, old), (results, fresh)])
    assert len(section.rows) == 1 and section.rows[0].rank == 1


def test_a_file_without_a_metric_is_named(added: Path) -> None:
    (added / "empty.py").write_text("")
    with pytest.raises(UserError, match=r"empty.py: expected METRIC = Metric\(name='empty'"):
        metrics.columns()
    sys.modules.pop("harness.metrics.empty", None)
