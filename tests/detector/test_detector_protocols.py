"""Which step's weights are kept, on what they are chosen, and several categories in one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector import checkpoint, mixture, scorefile
from detector import run_folder as runfolder
from detector.data import task as task_module
from detector.data.source import Mixture, held_out_rule
from detector.data.task import single, together
from detector.inference.score import score
from detector.options import TrainOptions
from detector.training.train import accelerator_for, train
from harness.board import build as leaderboard
from harness.board import tables
from harness.measure import detection
from sia_gen.core.data import category as category_module
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.ranking import rank
from sia_gen.core.store.shards import find_shards

Make = Callable[..., TrainOptions]


def cpu() -> Any:
    return accelerator_for("cpu", "fp32")


def test_merit_is_auroc_and_average_precision() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 20, 200).astype(float), rng.random(200) < 0.3
    higher = (scores[labels][:, None] > scores[~labels]).mean()
    equal = (scores[labels][:, None] == scores[~labels]).mean()
    assert rank(scores, labels).area() == pytest.approx(higher + equal / 2)
    precision, recall = [], []
    for threshold in np.unique(scores)[::-1]:
        above = scores >= threshold
        precision.append(labels[above].mean())
        recall.append(labels[above].sum() / labels.sum())
    area = np.sum(np.diff(recall, prepend=0) * precision)
    assert rank(scores, labels).average_precision() == pytest.approx(area)
    assert rank(labels.astype(float), labels).average_precision() == 1


def test_held_out_protocol_chooses_without_test_or_training_images(
    tmp_path: Path,
    tiny: Make,
    stripes: Category,
    generated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: set[Path] = set()
    original = task_module.read_image

    def spy(path: Path, size: int | None = None, value_range: Any = None) -> Any:
        read.add(path)
        return original(path, size, value_range)

    monkeypatch.setattr(task_module, "read_image", spy)
    monkeypatch.setattr(category_module, "read_image", spy)
    options = tiny(steps=60, protocol="held-out", holdout=0.3, look_every=10, patience=2)
    task = single(stripes, find_shards(generated))
    facts = train(options, task, tmp_path / "run", cpu())
    assert read <= set(stripes.train)
    chosen = facts["chosen"]
    looks = dict(chosen["looks"])
    assert chosen["rule"] == "held-out" and looks[chosen["step"]] == max(looks.values())
    # It stopped after two looks without a better one, or at its end.
    assert facts["step"] == min(60, chosen["step"] + 20)
    # The threshold comes from images that chose nothing.
    held = runfolder.split_training(stripes, 0.3)[1]
    assert len(facts["reference"]["score_max"]) == len(held[1::2])
    # Training and choosing share no synthetic image.
    keys = [f"stripes-{i:05}" for i in range(200)]
    trained = {k for k in keys if held_out_rule(options, False)(k)}
    choosing = {k for k in keys if held_out_rule(options, True)(k)}
    assert trained | choosing == set(keys) and not trained & choosing and choosing
    with pytest.raises(UserError, match="protocol held-out needs --holdout"):
        tiny(protocol="held-out")


def test_stopped_choice_goes_on_with_the_best_weights_so_far(
    tmp_path: Path, tiny: Make, stripes: Category, generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = tiny(
        steps=30, protocol="held-out", holdout=0.3, look_every=10, checkpoint_seconds=0.001
    )
    task = single(stripes, find_shards(generated))
    whole = train(options, task, tmp_path / "whole", cpu())
    original = checkpoint.save_state

    def stopped(folder: Path, step: int, *rest: Any) -> None:
        original(folder, step, *rest)
        if step == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_state", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(options, task, tmp_path / "stopped", cpu())
    resumed = train(options, task, tmp_path / "stopped", cpu())
    assert resumed["chosen"] == whole["chosen"] and resumed["sha256"] == whole["sha256"]


def test_best_on_test_is_labelled_in_every_row(
    tmp_path: Path, tiny: Make, stripes: Category, generated: Path
) -> None:
    options = tiny(steps=20, protocol="best-on-test", look_every=10)
    run = tmp_path / "run"
    facts = train(options, single(stripes, find_shards(generated)), run, cpu())
    assert tiny().protocol == "last" and facts["chosen"]["rule"] == "best-on-test"
    assert score(run, stripes, "cpu")
    scores = scorefile.read(runfolder.folder_of(run, stripes) / "scores")
    assert scores.protocol["checkpoint_rule"] == "best-on-test"
    records = detection.run([run], tmp_path / "results", each=0)
    (section,) = leaderboard.build([(tmp_path, record) for record in records])
    assert [row.label for row in section.rows] == [" [best-on-test]"]
    assert any("realnet + sdas [best-on-test]" in line for line in tables.main_table(section)[1])


def test_one_model_for_several_categories(tmp_path: Path, tiny: Make, line: Path) -> None:
    categories = open_dataset(line).categories
    task = together([single(c, []) for c in categories])
    options = tiny(steps=10, source="noise:1,cutpaste:3", foreground=False, reconstruction="plain")
    run = tmp_path / "run"
    facts = train(options, task, run, cpu())
    assert facts["categories"] == ["line/stripes", "line/stripes-b"]
    assert facts["inputs"]["train_images"] == 32 and facts["inputs"]["foreground"] == "whole"
    for category in categories:
        assert score(run, category, "cpu")
        found = scorefile.read(run / "line" / category.name / "scores")
        assert found.category == category.key
        assert found.protocol["multi_class"] == facts["categories"]
        assert found.protocol["source"] == "cutpaste:0.75,noise:0.25"
    assert checkpoint.read_facts(run / "line" / "multi-class")["category"] == "line/multi-class"


def test_mixtures_have_one_spelling_and_draw_by_weight() -> None:
    assert mixture.canonical("dtd:2, sdas:2") == "dtd:0.5,sdas:0.5"
    assert mixture.canonical("nsa:7") == "nsa" and mixture.canonical("none") == "none"
    for wrong, said in (
        ("sdas:0.5,dtt:0.5", "Did you mean dtd"),
        ("sdas:x", "is no number"),
        ("sdas:0,dtd:1", "above 0"),
        ("dtd,dtd", "names dtd twice"),
    ):
        with pytest.raises(UserError, match=said):
            mixture.parse(wrong)

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def pair(self, *_: Any) -> Any:
            return self.name

    both = Mixture([Named("a"), Named("b")], [0.25, 0.75])
    rng = np.random.default_rng(0)
    empty = np.zeros((2, 2, 3), dtype=np.uint8)
    drawn = [both.pair(empty, empty[..., 0] > 0, rng) for _ in range(800)]
    assert drawn.count("b") / 800 == pytest.approx(0.75, abs=0.05)


def test_options_of_methods_are_checked_and_kept(tiny: Make, tmp_path: Path) -> None:
    options = tiny(source="dtd", **{"dtd.textures": str(tmp_path), "dtd.augmentations": 2})
    assert options.methods["dtd"]["augmentations"] == 2
    with pytest.raises(UserError, match=r"option dtd\.texture is unknown.*textures"):
        tiny(source="dtd", **{"dtd.texture": "x"})
    with pytest.raises(UserError, match="source sdas has no dtd"):
        tiny(**{"dtd.textures": "x"})
