"""Two detectors on the same images: paired intervals, images that flip, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_support import scores_of

from detector import scorefile
from harness.compare import page as compare_page
from harness.compare import paired as compare
from harness.measure import detection
from sia_gen.core.errors import UserError


def reordered(scores: scorefile.Scores, order: list[int]) -> scorefile.Scores:
    return replace(
        scores,
        maps_NHW=scores.maps_NHW[order],
        masks_NHW=scores.masks_NHW[order],
        items=[scores.items[i] for i in order],
    )


def test_a_detector_does_not_differ_from_itself_in_any_order(tmp_path: Path) -> None:
    scores = scores_of(seed=1)
    scorefile.write(tmp_path / "a" / "scores", scores)
    scorefile.write(tmp_path / "b" / "scores", reordered(scores, list(range(11, -1, -1))))
    (found,), notes = compare.run(tmp_path / "a", tmp_path / "b")
    assert not notes
    assert not found.flips
    assert found.p_flips == 1.0
    for difference in found.differences:
        assert difference.value == 0.0
        assert difference.low == pytest.approx(0.0, abs=1e-12)
        assert difference.high == pytest.approx(0.0, abs=1e-12)
        assert difference.p == 1.0


def test_a_better_detector_is_found_better_and_pairing_helps(
    score_folder: Callable[..., Path],
) -> None:
    good, bad = score_folder("good", gain=3.0, seed=2), score_folder("bad", gain=0.05, seed=2)
    (found,), _ = compare.run(bad, good)
    values = {d.metric: d for d in found.differences}
    assert values["pixel_auroc"].value > 0.1
    assert values["pixel_auroc"].clear
    assert values["pixel_auroc"].p < 0.05
    assert {f.right for f in found.flips} <= {"a", "b"}
    reverse = {d.metric: d for d in compare.run(good, bad)[0][0].differences}
    for name, d in values.items():
        assert reverse[name].value == pytest.approx(-d.value)
        assert reverse[name].low == pytest.approx(-d.high, abs=1e-9)


def test_flips_are_judged_at_each_detectors_best_threshold() -> None:
    labels = np.array([False, False, False, True, True, True])
    assert compare.threshold(np.array([0.1, 0.2, 0.6, 0.5, 0.7, 0.9]), labels) == 0.5
    a, b = scores_of(seed=3), scores_of(seed=3)
    for item, score in zip(a.items, [0.0] * 6 + [1.0] * 6, strict=True):
        item["score_max"] = score
    for item, score in zip(b.items, [0.0] * 5 + [2.0] + [1.0] * 5 + [0.0], strict=True):
        item["score_max"] = score
    found = compare.compare(
        compare.Side(folder=Path("a"), scores=a), compare.Side(folder=Path("b"), scores=b)
    )
    assert sorted((f.index, f.right, f.anomalous) for f in found.flips) == [
        (5, "a", False), (11, "a", True),
    ]  # fmt: skip
    assert found.p_flips == 0.5  # two flips, both one way: 2 * (1/2)^2


def test_means_over_categories_and_what_only_one_has(score_folder: Callable[..., Path]) -> None:
    for name, gain in (("a", 0.2), ("b", 2.0)):
        for category in ("toys/duck", "toys/bear"):
            folder = score_folder(name, category, gain=gain, seed=4)
    score_folder("b", "toys/cat", gain=1.0)
    root = folder.parents[3]
    found, notes = compare.run(root / "a", root / "b")
    assert [c.category for c in found] == ["toys/bear", "toys/duck"]
    assert notes == [f"toys/cat: only in {root / 'b'}"]
    mean = {d.metric: d for d in compare.over_categories(found)}["pixel_auroc"]
    parts = [next(d for d in c.differences if d.metric == "pixel_auroc") for c in found]
    assert mean.value == pytest.approx(sum(d.value for d in parts) / 2)
    assert mean.high - mean.low < max(d.high - d.low for d in parts)


def test_other_images_are_not_compared(tmp_path: Path, score_folder: Callable[..., Path]) -> None:
    a = score_folder("a", seed=1)
    scores = scores_of(seed=1)
    scorefile.write(tmp_path / "short" / "scores", reordered(scores, list(range(11))))
    with pytest.raises(UserError, match="of different images of toys/duck: 1 are in one"):
        compare.run(a, tmp_path / "short")
    flipped: Any = [dict(item) for item in scores.items]
    flipped[7] |= {"anomalous": False}
    blank = scores.masks_NHW.copy()
    blank[7] = 0
    scorefile.write(tmp_path / "labels" / "scores", replace(scores, items=flipped, masks_NHW=blank))
    with pytest.raises(UserError, match="disagree on whether dent/7 is anomalous"):
        compare.run(a, tmp_path / "labels")
    with pytest.raises(UserError, match="no category in common"):
        compare.run(a, score_folder("other", "toys/bear"))
    with pytest.raises(UserError, match="two score folders of toys/duck"):
        compare.run(tmp_path, a)
    with pytest.raises(UserError, match="no score_own"):
        compare.run(a, a, "own")


def test_records_name_their_scores_and_the_page_is_whole_and_escaped(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    name = "<script>alert(1)</script>"
    a = score_folder("a", seed=1, gain=0.1, detector=name)
    b = score_folder("b", seed=2, gain=2.0)
    detection.run([a], tmp_path / "results")
    (record,) = (tmp_path / "results" / "records").glob("*.json")
    found, notes = compare.run(record, b)
    page = tmp_path / "compare.html"
    compare_page.write(page, found, notes, [], 3)
    text = page.read_text()
    assert name not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert text.count("data:image/jpeg") == min(3, sum(f.right == "a" for f in found[0].flips)) + (
        min(3, sum(f.right == "b" for f in found[0].flips))
    )
    command = [sys.executable, "-m", "harness.cli", "compare", str(record), str(b), "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["a"] == f"{name} + sdas"
    assert document["categories"][0]["differences"][0]["interval"]
