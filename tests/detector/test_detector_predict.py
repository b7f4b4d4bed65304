"""Prediction on images without labels: decisions, pictures, bad files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector import overlay
from detector.engine import Engine
from detector.inference import pipeline
from detector.inference.predict import PredictOptions, predict, promised, threshold_of, watch
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import IncompleteError, UserError


def test_threshold_keeps_the_promised_share_below_it() -> None:
    scores = [float(v) for v in range(1, 100)]
    assert threshold_of(scores, 0.05) == 95.0
    assert threshold_of(scores, 0.5) == 50.0
    assert threshold_of([3.0, 1.0, 2.0], 0.05) == 3.0  # too few for 5 %: the largest
    # Split conformal: a fresh score exceeds the threshold with at most the promised probability.
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(2000, 40))
    alarms = [row[-1] > threshold_of(row[:-1].tolist(), 0.1) for row in draws]
    assert np.mean(alarms) < 0.12
    # Too few images cannot promise it, which is said, and the rate that is said is kept.
    few = [row[-1] > threshold_of(row[:4].tolist(), 0.05) for row in draws]
    assert promised(4, True, 0.05) == 0.2 and promised(19, True, 0.05) == 0.05
    assert promised(400, False, 0.05) is None
    assert np.mean(few) == pytest.approx(0.2, abs=0.03)


def test_folder_gives_pictures_and_a_table_and_names_bad_files(
    trained: Path, stripes: Category, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    (source / "shift two").mkdir(parents=True)
    for i, example in enumerate(e for e in stripes.test[:4]):
        Image.open(example.path).resize((50, 40)).save(source / "shift two" / f"{i}.png")
    (source / "text.png").write_text("no image")
    model, out = trained / "line" / "stripes", tmp_path / "out"
    with pytest.raises(IncompleteError, match=r"1 of 5 images could not be read, e\.g\. .*text"):
        predict(source, model, out, PredictOptions(device="cpu"))
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [f"shift two/{i}.png" for i in range(4)]
    for row in rows:
        wanted = "anomalous" if float(row["score"]) > float(row["threshold"]) else "normal"
        assert row["decision"] == wanted
        picture = Image.open(out / "overlays" / f"{row['path']}.jpg")
        assert picture.size == (3 * 50 + 2 * overlay.GAP, 40 + overlay.CAPTION)
    document = json.loads((out / "predictions.json").read_text())
    assert "held-out normal images" in document["threshold_from"]
    assert [bad["path"] for bad in document["unreadable"]] == ["text.png"]


def test_single_image_and_wrong_inputs(trained: Path, stripes: Category, tmp_path: Path) -> None:
    model = trained / "line" / "stripes"
    options = PredictOptions(device="cpu", image_score="avgpool16_max")
    summary = predict(stripes.test[0].path, model, tmp_path / "one", options)
    assert summary["images"] == 1 and summary["unreadable"] == []
    with pytest.raises(UserError, match="does not exist"):
        predict(tmp_path / "absent", model, tmp_path / "none", options)
    with pytest.raises(UserError, match=r"holds no checkpoint\.json"):
        predict(stripes.test[0].path, trained, tmp_path / "none", options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        predict(tmp_path / "empty", model, tmp_path / "none", options)
    assert not (tmp_path / "none").exists()


def test_colours_rise_from_blue_to_red_and_the_region_is_outlined() -> None:
    low, high = overlay.colourise(np.array([[0.0, 1.0]], dtype=np.float32))[0]
    assert low[2] > low[0] and high[0] > high[2]
    map_HW = np.zeros((16, 16), dtype=np.float32)
    map_HW[4:10, 4:10] = 1
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    over = overlay.panel(image, map_HW, 0.5)[:, -16:]
    assert (over[4, 4:10] == 255).all() and not (over[6, 6] == 255).all()


def test_odd_names_cost_no_other_image_its_answer(
    trained: Path, stripes: Category, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    content = stripes.test[0].path.read_bytes()
    odd = [b"x" * 251 + b".png", b"\xff\xfe.png", b"two\nlines.png", b"\x1b[31mred.png", b"z.png"]
    for name in odd:
        (source / os.fsdecode(name)).write_bytes(content)
    out = source / "out"  # inside the photographs: its pictures are no photographs
    options = PredictOptions(device="cpu")
    model = trained / "line" / "stripes"
    for _ in range(2):
        assert predict(source, model, out, options)["images"] == len(odd)
        lines = (out / "predictions.csv").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1 + len(odd)
        assert {"\\xff\\xfe.png", "two\\nlines.png", "\\x1b[31mred.png"} < {
            line.split(",")[0] for line in lines
        }
    assert sum(p.is_file() for p in (out / "overlays").iterdir()) == len(odd)


def test_a_rerun_goes_on_and_does_again_what_changed(
    trained: Path, stripes: Category, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for i in range(3):
        (source / f"{i}.png").write_bytes(stripes.test[i].path.read_bytes())
    model, out, options = trained / "line" / "stripes", tmp_path / "out", PredictOptions()
    looked: list[Any] = []
    answers = Engine.answers

    def counted(engine: Engine, prepared: Any, sizes: Any) -> Any:
        looked.extend(prepared)
        if prepared and len(looked) == 3:
            raise KeyboardInterrupt
        return answers(engine, prepared, sizes)

    monkeypatch.setattr(pipeline, "BATCH", 1)
    monkeypatch.setattr(Engine, "answers", counted)
    with pytest.raises(KeyboardInterrupt):
        predict(source, model, out, options)
    table = (out / "predictions.csv").read_text()
    assert len(table.splitlines()) == 3  # two answers were there when it was stopped
    summary = predict(source, model, out, options)
    assert summary["images"] == 3 and len(looked) == 4
    assert (out / "predictions.csv").read_text().startswith(table)
    (source / "0.png").write_bytes(stripes.test[5].path.read_bytes())
    predict(source, model, out, options)
    assert len(looked) == 5
    predict(source, model, out, PredictOptions(image_score="avgpool16_max"))
    assert len(looked) == 8  # another question


def test_a_folder_without_images_is_told_what_is_accepted(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "IMG_1.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"1 other files, such as IMG_1\.heic.*\.jpg.*\.png"):
        predict(tmp_path / "photos", trained / "line" / "stripes", tmp_path / "o", PredictOptions())


def test_a_watched_folder_is_answered_as_images_come(
    trained: Path, stripes: Category, tmp_path: Path
) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    model = trained / "line" / "stripes"
    looks: list[int] = []

    def stop() -> bool:
        number = len(looks)
        looks.append(number)
        if number in {1, 3}:
            (source / f"{number}.png").write_bytes(stripes.test[number].path.read_bytes())
        if number == 4:
            (source / "broken.png").write_text("no image")
        return number == 8

    options = PredictOptions(device="cpu", watch=0.01, overlays=False)
    summary = watch(source, model, out, options, stop)
    assert [row["path"] for row in summary["predictions"]] == ["1.png", "3.png"]
    assert [bad["path"] for bad in summary["unreadable"]] == ["broken.png"]
    assert not (out / "overlays").exists()


def test_a_killed_prediction_loses_at_most_its_batches(
    trained: Path, stripes: Category, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    for i in range(6):
        (source / f"{i}.png").write_bytes(stripes.test[i].path.read_bytes())
    model, options = trained / "line" / "stripes", PredictOptions(device="cpu", overlays=False)
    predict(source, model, out, options)
    lines = (out / "predictions.jsonl").read_bytes()
    (out / "predictions.jsonl").write_bytes(lines[: lines.rfind(b"{") + 9])  # cut in a line
    computed: list[Any] = []
    answers = Engine.answers
    monkeypatch.setattr(Engine, "answers", lambda e, p, s: computed.extend(p) or answers(e, p, s))
    assert predict(source, model, out, options)["images"] == 6
    assert len(computed) == 1
    before, after = (
        [json.loads(line) for line in text.splitlines()]
        for text in (lines, (out / "predictions.jsonl").read_bytes())
    )
    assert after[:5] == before[:5] and after[5]["path"] == before[5]["path"]
    assert after[5]["score"] == pytest.approx(before[5]["score"], abs=1e-5)
