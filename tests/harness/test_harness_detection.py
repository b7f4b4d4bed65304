"""Score folders to records: what is measured, what is refused, and that nothing is done twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_support import draw, scores_of
from PIL import Image

from detector import scorefile
from harness import records
from harness.measure import detection, examples
from harness.measure.detection_metrics import measure
from harness.metrics import image_auroc, pixel_auroc, pro
from sia_gen.core.errors import UserError


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / "scores.json").read_text())
    change(document)
    (folder / "scores.json").write_text(json.dumps(document))


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_record_holds_every_metric(score_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = score_folder(seed=3)
    (record,) = detection.run([folder], tmp_path / "results")
    scores = scores_of(seed=3)
    labels = [item["anomalous"] for item in scores.items]
    metrics = record["metrics"]
    assert set(metrics) == {
        "image_auroc_max", "image_ap_max", "image_auroc_avgpool16_max", "image_ap_avgpool16_max",
        "image_f1max_max", "image_f1max_avgpool16_max", "pixel_auroc", "pixel_ap", "pixel_f1max",
            "pro_0.3", "pro_0.05",
    }  # fmt: skip
    for name in ("max", "avgpool16_max"):
        expected = image_auroc.compute([i[f"score_{name}"] for i in scores.items], labels)
        assert metrics[f"image_auroc_{name}"]["value"] == expected
    assert metrics["pixel_auroc"]["value"] == pixel_auroc.compute(scores.maps_NHW, scores.masks_NHW)
    assert metrics["pro_0.05"]["value"] == pro.compute(
        scores.maps_NHW, scores.masks_NHW, limit=0.05
    )
    assert (record["method"], record["source"]) == ("realnet", "sdas")
    assert (record["dataset"], record["category"], record["seed"]) == ("toys", "duck", 0)
    assert record["protocol"] == {"resolution": 24}
    assert record["counts"]["anomalous"] == 6
    assert record["artifacts"]["scores"] == str(folder)
    ((_, stored),) = records.find([tmp_path / "results"])
    assert stored == record


def test_the_run_does_not_define_the_row(score_folder: Callable[..., Path], tmp_path: Path) -> None:
    score_folder(run={"checkpoint_sha256": "ab", "train_images": 9, "seconds": 1.5}, epochs=3)
    (record,) = detection.run([tmp_path], tmp_path / "results")
    assert record["protocol"] == {"resolution": 24, "epochs": 3}
    assert record["run"] == {"checkpoint_sha256": "ab", "train_images": 9, "seconds": 1.5}


def test_a_file_of_schema_1_is_told_apart(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = score_folder(epochs=3)

    def old(document: dict[str, Any]) -> None:
        del document["run"]
        document["schema"] = 1
        document["protocol"] |= {"seed": 4, "checkpoint_sha256": "ab", "train_images": 9}
        document["protocol"]["run"] = {"seconds": 1.5}

    edit(folder, old)
    (record,) = detection.run([folder], tmp_path / "results")
    assert record["seed"] == 4
    assert record["protocol"] == {"resolution": 24, "epochs": 3}
    assert record["run"] == {"checkpoint_sha256": "ab", "train_images": 9, "seconds": 1.5}


def test_folders_are_found_at_any_depth_and_measured_once(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    score_folder("a", "toys/duck")
    score_folder("b", "toys/car", seed=2)
    said: list[str] = []
    out = tmp_path / "results"
    first = detection.run([tmp_path / "a", tmp_path / "b", tmp_path / "a"], out, tell=said.append)
    assert [r["category"] for r in first] == ["duck", "car"]
    before = files_of(out)
    second = detection.run([tmp_path], out, tell=said.append)
    assert [text.rsplit(": ")[1] for text in said] == ["measured"] * 2 + ["measured before"] * 2
    assert files_of(out) == before
    assert sorted(map(records.identity, first)) == sorted(map(records.identity, second))


def test_images_without_mask_leave_pixel_metrics(tmp_path: Path) -> None:
    scores = scores_of(seed=5)
    whole = measure(scores).metrics
    masks = scores.masks_NHW.copy()
    masks[11] = 0
    items = [dict(item) for item in scores.items]
    items[11]["has_mask"] = False
    items[10]["has_mask"] = True
    masks[10] = 0  # a mask that is empty says as little as none
    lost = replace(scores, masks_NHW=masks, items=items)
    measured = measure(lost)
    found, counts = measured.metrics, measured.counts
    assert counts["anomalous_without_mask"] == 2
    assert found["image_auroc_max"] == whole["image_auroc_max"]
    assert found["pixel_auroc"]["n"] == [4, 6]
    assert found["pixel_auroc"]["value"] == pixel_auroc.compute(scores.maps_NHW[:10], masks[:10])
    scorefile.write(tmp_path / "s", lost)
    (record,) = detection.run([tmp_path / "s"], tmp_path / "results")
    assert any("2 anomalous images without mask" in note for note in record["notes"])


@pytest.mark.parametrize("keep", [slice(0, 6), slice(6, 12)])
def test_one_class_only_is_undefined_with_a_reason(keep: slice, tmp_path: Path) -> None:
    scores = scores_of()
    scorefile.write(
        tmp_path / "s",
        replace(
            scores,
            maps_NHW=scores.maps_NHW[keep],
            masks_NHW=scores.masks_NHW[keep],
            items=scores.items[keep],
        ),
    )
    (record,) = detection.run([tmp_path / "s"], tmp_path / "results")
    entry = record["metrics"]["image_auroc_max"]
    assert entry["value"] is None
    assert "undefined" in entry["reason"]
    # Pixels of anomalous images alone are of both classes; of normal images alone they are not.
    assert (record["metrics"]["pro_0.3"]["value"] is None) == (keep.start == 0)


def refuse(tmp_path: Path, folder: Path, match: str) -> None:
    out = tmp_path / "results"
    with pytest.raises(UserError, match=match):
        detection.run([folder], out)
    assert not out.exists()


def test_nan_is_refused_and_nothing_is_written(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = score_folder("b")
    score_folder("a", "toys/car")
    maps = np.load(folder / "maps.npy")
    maps[7, 3, 3] = np.nan
    np.save(folder / "maps.npy", maps)
    refuse(tmp_path, tmp_path, r"test/7\.png holds NaN")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None, "high", True])
def test_image_scores_must_be_numbers(
    bad: object, score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = score_folder()
    edit(folder, lambda d: d["items"][2].update(score_max=bad))
    refuse(tmp_path, folder, r"score_max of test/2\.png is .*not ranked")


def test_shapes_must_match(score_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = score_folder()
    np.save(folder / "masks.npy", np.zeros((12, 24, 23), dtype=np.uint8))
    refuse(tmp_path, folder, r"maps \(12, 24, 24\), masks \(12, 24, 23\) and 12 items")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.pop("items"), "lacks a part"),
        (lambda d: d.update(schema=99), "expected schema 2, or 1"),
        (lambda d: d.update(category="duck"), "is not dataset/name"),
        (lambda d: d["items"][0].pop("defect"), "item 0 lacks defect"),
        (lambda d: d["items"][11].update(anomalous=False), "counts as normal but its mask"),
        (lambda d: d["items"].pop(), "11 items"),
        (lambda d: d.update(items="none"), r"and 4 items|lacks a part"),
    ],
)
def test_foreign_or_damaged_score_files(
    change: Callable[[dict[str, Any]], None],
    match: str,
    score_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = score_folder()
    edit(folder, change)
    refuse(tmp_path, folder, match)


def test_missing_empty_and_torn_folders(score_folder: Callable[..., Path], tmp_path: Path) -> None:
    refuse(tmp_path, tmp_path / "none", "no such folder")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path, tmp_path / "empty", "holds no score folder")
    folder = score_folder()
    (folder / "maps.npy").write_bytes((folder / "maps.npy").read_bytes()[:300])
    refuse(tmp_path, folder, "maps.npy cannot be read")
    (folder / "maps.npy").unlink()
    refuse(tmp_path, folder, "incomplete")
    (folder / "scores.json").write_text("[1, 2]")
    np.save(folder / "maps.npy", np.zeros((1, 2, 2)))
    refuse(tmp_path, folder, "expected schema 2, or 1")


def test_a_results_path_that_is_a_file(score_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = score_folder()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        detection.run([folder], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_examples_are_best_and_worst_and_survive_the_scores(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = score_folder(gain=3.0)
    for i in range(12):
        draw(tmp_path / "data" / "duck" / "test" / f"{i}.png", i)
    out = tmp_path / "results"
    (record,) = detection.run([folder], out, data=tmp_path / "data")
    assert record["notes"] == []
    shown = record["artifacts"]["examples"]
    assert [e["outcome"] for e in shown] == [
        "found", "found", "missed", "missed", "false alarm", "quiet",
    ]  # fmt: skip
    items = sorted(scores_of(gain=3.0).items, key=lambda item: item["score_max"])
    anomalous = [item["path"] for item in items if item["anomalous"]]
    assert shown[0]["path"] == anomalous[-1]
    assert shown[2]["path"] == anomalous[0]
    shutil.rmtree(folder)
    for example in shown:
        with Image.open(out / example["file"]) as picture:
            assert picture.size == (3 * examples.TILE + 2 * examples.GAP, examples.TILE)


def test_lost_images_and_escaping_paths_become_gray_tiles(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = score_folder()
    draw(tmp_path / "secret.png", 1)
    edit(folder, lambda d: [i.update(path="../secret.png") for i in d["items"]])
    (record,) = detection.run([folder], tmp_path / "results", data=tmp_path / "run")
    assert any("shown as gray" in note for note in record["notes"])
    for name in ("../secret.png", "/" + "x" * 5000, "x" * 5000, "/a\0b", "\ud800"):
        assert examples.find_image(name, [tmp_path / "run"]) is None
    assert len(record["artifacts"]["examples"]) == 6


def test_colours_rise_with_the_score() -> None:
    values = np.linspace(-0.5, 1.5, 60)[None]
    light = examples.colours(values).astype(int).sum(axis=-1)[0]
    assert (np.diff(light) >= 0).all()
    assert light[0] < 100 < 600 < light[-1]
    assert examples.colour_range(np.full((2, 4, 4), 3.0)) == (3.0, 4.0)  # constant maps
