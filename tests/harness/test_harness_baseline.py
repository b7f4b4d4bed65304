"""The colour-statistics baseline: what it scores, and that it resumes or refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector import scorefile
from harness.measure import baseline, detection
from sia_gen.core.errors import UserError


def test_statistics_are_window_means_and_deviations() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    found = baseline.statistics(image, 5)
    window = image[3:8, 8:13].astype(np.float64) / 255
    expected = [*window.mean(axis=(0, 1)), *window.std(axis=(0, 1))]
    assert found[5, 10] == pytest.approx(expected, abs=1e-9)


def test_training_images_score_low_and_odd_ones_high() -> None:
    rng = np.random.default_rng(0)
    train = [rng.integers(100, 140, (32, 32, 3), dtype=np.uint8) for _ in range(20)]
    model = baseline.fit(train, (5, 9))
    normal = model.score(rng.integers(100, 140, (32, 32, 3), dtype=np.uint8))
    odd = train[0].copy()
    odd[10:18, 10:18] = 250
    scored = model.score(odd)
    assert scored.shape == (32, 32)
    assert scored.dtype == np.float32
    assert scored.max() > 5 * normal.max()
    y, x = np.unravel_index(scored.argmax(), scored.shape)
    assert 9 <= y < 19
    assert 9 <= x < 19
    assert model.score(train[3]).max() < normal.max() * 1.5


def test_flat_training_images_still_tell_what_differs() -> None:
    flat = [np.full((16, 16, 3), 90, dtype=np.uint8) for _ in range(3)]
    model = baseline.fit(flat, (5,))
    assert model.score(flat[0]).max() == 0.0
    assert model.score(flat[0] + np.uint8(60)).min() > 1.0


def test_a_run_writes_score_folders_and_resumes(small_dataset: Path, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "run"
    folders = baseline.run(str(small_dataset), "all", out, tell=said.append)
    assert folders == [out / "small" / c / "scores" for c in ("bolt", "cloth")]
    scores = scorefile.read(folders[0])
    assert scores.category == "small/bolt"
    assert scores.protocol["detector"] == "colour-statistics"
    assert scores.protocol["resolution"] == 32
    assert [item["has_mask"] for item in scores.items] == [False] * 6 + [True] * 4
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert baseline.run(str(small_dataset), "all", out, tell=said.append) == folders
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    assert said[-1].endswith("scored before")

    results = detection.run([out], tmp_path / "results")
    assert [r["method"] for r in results] == ["colour-statistics"] * 2
    assert all(r["metrics"]["image_auroc_max"]["value"] == 1.0 for r in results)  # bright spots
    assert all(r["counts"]["anomalous_without_mask"] == 1 for r in results)

    with pytest.raises(UserError, match=r"other options.*size: 32 there, 16 asked"):
        baseline.run(str(small_dataset), "bolt", out, size=16)
    (small_dataset / "bolt" / "train" / "good" / "0.png").unlink()
    with pytest.raises(UserError, match=r"other options.*images_sha256"):
        baseline.run(str(small_dataset), "bolt", out)


def test_an_interrupted_category_is_scored_again(small_dataset: Path, tmp_path: Path) -> None:
    (folder,) = baseline.run(str(small_dataset), "bolt", tmp_path / "run")
    expected = (folder / "maps.npy").read_bytes()
    (folder / "scores.json").unlink()
    baseline.run(str(small_dataset), "bolt", tmp_path / "run")
    assert (folder / "maps.npy").read_bytes() == expected


def test_bad_input_writes_nothing(small_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="Did you mean bolt"):
        baseline.run(str(small_dataset), "bold", out)
    with pytest.raises(UserError, match="does not exist"):
        baseline.run(str(tmp_path / "none"), "all", out)
    (small_dataset / "bolt" / "train" / "good" / "0.png").write_text("no image")
    with pytest.raises(UserError, match=r"0\.png"):
        baseline.run(str(small_dataset), "all", out)
    assert not out.exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        baseline.run(str(small_dataset), "all", tmp_path / "file")
