"""Training and scoring end to end: it learns, it resumes exactly, it refuses what it must."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import Child, detector
from PIL import Image
from safetensors.torch import save_file
from tracked import pictures, scalars

from detector import checkpoint, overlay, scorefile
from detector import run_folder as runfolder
from detector.data import task as task_module
from detector.data.task import single
from detector.inference.score import score
from detector.model import Inputs
from detector.models.realnet import RealNet
from detector.options import TrainOptions
from detector.training import train as train_module
from detector.training import train as training
from detector.training.train import accelerator_for, train
from sia_gen.core.data import category as category_module
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import DivergedError, UserError, VerificationError
from sia_gen.core.provenance import sha256_file
from sia_gen.core.statistics.ranking import rank
from sia_gen.core.store.shards import find_shards

Make = Callable[..., TrainOptions]


def cpu() -> Any:
    return accelerator_for("cpu", "fp32")


def test_tiny_training_tells_defects_from_normal_images(trained: Path, stripes: Category) -> None:
    folder = runfolder.folder_of(trained, stripes)
    score(trained, stripes, "cpu", force=True)
    scores = scorefile.read(folder / "scores")
    labels = np.array([bool(item["anomalous"]) for item in scores.items])
    values = np.array([item["score_max"] for item in scores.items])
    assert rank(values, labels).area() > 0.8
    inside = scores.maps_NHW[scores.masks_NHW > 0].mean()
    outside = scores.maps_NHW[scores.masks_NHW == 0].mean()
    assert inside > 2 * outside
    assert scores.masks_NHW.sum() == 12 * 100 and scores.maps_NHW.shape == (24, 32, 32)
    protocol = scores.protocol
    assert protocol["checkpoint_rule"] == "last" and protocol["source"] == "sdas"
    assert protocol["backbone"] == "resnet18@random-seed0" and protocol["resolution"] == 32
    facts = checkpoint.read_facts(folder)
    assert scores.run["checkpoint_sha256"] == facts["sha256"]
    losses = [reconstruction + segmentation for _, reconstruction, segmentation in facts["curve"]]
    assert losses[-1] < losses[0]
    assert not (folder / "state").exists()


def test_a_tracker_is_shown_losses_and_maps_of_images_that_are_not_trained_on(
    trained: Path,
) -> None:
    logs = trained.parent / "logs"
    assert scalars(logs)["loss"][-1][0] == 60
    shown = pictures(logs)
    assert set(shown) == {"maps/held_out", "maps/training_pairs"}
    step, picture = shown["maps/held_out"][-1]
    assert step == 60 and picture.shape[1] == 3 * 32 + 2 * overlay.GAP


def test_second_scoring_is_left_alone_until_something_changed(
    trained: Path, stripes: Category, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(runfolder.folder_of(run, stripes) / "scores", ignore_errors=True)
    assert score(run, stripes, "cpu")
    path = runfolder.folder_of(run, stripes) / "scores" / "maps.npy"
    before = path.stat().st_mtime_ns, sha256_file(path)
    assert not score(run, stripes, "cpu")
    assert path.stat().st_mtime_ns == before[0]
    assert score(run, stripes, "cpu", force=True)
    assert sha256_file(path) == before[1]


def test_training_reads_no_test_image(
    tmp_path: Path,
    tiny: Make,
    stripes: Category,
    generated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: set[Path] = set()

    def spy(path: Path, size: int | None = None, value_range: Any = None) -> Any:
        read.add(path)
        return original(path, size, value_range)

    original = task_module.read_image
    monkeypatch.setattr(task_module, "read_image", spy)
    monkeypatch.setattr(category_module, "read_image", spy)
    options = tiny(steps=4, holdout=0.2)
    train(options, single(stripes, find_shards(generated)), tmp_path / "run", cpu())
    assert read and read <= set(stripes.train)


def test_held_out_images_are_not_trained_on(
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

    def scored(*arguments: Any) -> Any:
        trained_on.extend(read)
        return score(*arguments)

    trained_on: list[Path] = []
    score = train_module.score_files
    monkeypatch.setattr(task_module, "read_image", spy)
    monkeypatch.setattr(train_module, "score_files", scored)
    tars = find_shards(generated)
    facts = train(tiny(steps=4, holdout=0.2), single(stripes, tars), tmp_path / "run", cpu())
    used, held = runfolder.split_training(stripes, 0.2)
    assert set(trained_on) == set(used) and not set(trained_on) & set(held)
    assert facts["reference"]["images"] == "held-out"
    assert len(facts["reference"]["score_max"]) == len(held)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    tiny: Make,
    recipe: Path,
    stripes: Category,
    generated: Path,
) -> tuple[TrainOptions, dict[str, Any]]:
    """The options of a short training, and the facts of one that nothing interrupted."""
    options = TrainOptions(
        **{**vars(tiny(steps=40, checkpoint_seconds=0.001)), "recipe": str(recipe)}
    )
    run = tmp_path_factory.mktemp("whole")
    return options, train(options, single(stripes, find_shards(generated)), run, cpu())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_training_ends_with_the_weights_of_an_uninterrupted_one(
    number: signal.Signals,
    tmp_path: Path,
    recipe: Path,
    line: Path,
    stripes: Category,
    generated: Path,
    whole: tuple[TrainOptions, dict[str, Any]],
) -> None:
    command = ["train", "--data", str(line), "--categories", "stripes", "--device", "cpu"]
    command += ["--shards", str(generated), "--recipe", str(recipe), "--out", str(tmp_path)]
    command += ["--steps", "40", "--set", "checkpoint_seconds=0.001"]
    folder = tmp_path / "line" / "stripes"
    child = Child(tmp_path / "stderr", detector, *command)
    limit = time.monotonic() + 120
    while not any((folder / "state").glob("step-*")) and time.monotonic() < limit:
        time.sleep(0.005)
    child.send(number)
    code = child.wait()
    assert any((folder / "state").glob("step-*")) and not (folder / "checkpoint.json").exists()
    if number == signal.SIGTERM:
        said = child.said()
        assert code == 128 + signal.SIGTERM, said
        assert "stopped by SIGTERM after step" in said and "same command again to go on" in said
    else:
        assert code == -signal.SIGKILL, "it ended before it could be killed"
    options, uninterrupted = whole
    resumed = train(options, single(stripes, find_shards(generated)), tmp_path, cpu())
    for fact in ("sha256", "curve", "reference"):
        assert resumed[fact] == uninterrupted[fact]


def test_finished_training_is_not_done_again_and_other_options_are_refused(
    trained: Path,
    tiny: Make,
    stripes: Category,
    generated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tars = find_shards(generated)
    options = tiny(steps=60, holdout=0.2)
    monkeypatch.setattr(training, "_fit", None)
    facts = train(options, single(stripes, tars), trained, cpu())
    assert facts["step"] == 60
    # What changes no result may differ: how often states are saved.
    train(tiny(steps=60, holdout=0.2, checkpoint_seconds=7), single(stripes, tars), trained, cpu())
    with pytest.raises(
        UserError, match=r"learning_rate: 0\.003 there, 0\.1 asked; seed: 0 there, 5 asked"
    ):
        train(
            tiny(steps=60, holdout=0.2, learning_rate=0.1, seed=5),
            single(stripes, tars),
            trained,
            cpu(),
        )
    with pytest.raises(UserError, match=r"shards_sha256: \w+ there, none asked"):
        train(tiny(steps=60, holdout=0.2), single(stripes, []), trained, cpu())


def test_loss_that_is_not_finite_stops_with_the_last_good_state_kept(
    tmp_path: Path,
    tiny: Make,
    stripes: Category,
    generated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    original = RealNet.losses

    def poisoned(self: RealNet, stage: str, inputs: Inputs) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        losses = original(self, stage, inputs)
        if calls > 15:
            losses["reconstruction"] = losses["reconstruction"] * float("nan")
        return losses

    monkeypatch.setattr(RealNet, "losses", poisoned)
    options = tiny(steps=40, checkpoint_seconds=0.001)
    with pytest.raises(DivergedError, match=r"at step 20.*last good state is kept"):
        train(options, single(stripes, find_shards(generated)), tmp_path / "run", cpu())
    folder = runfolder.folder_of(tmp_path / "run", stripes)
    kept = checkpoint.load_state(folder)
    assert kept is not None and kept[1]["step"] == 10
    assert not checkpoint.nonfinite(kept[0]["model"])
    with pytest.raises(UserError, match="its training is not finished"):
        score(tmp_path / "run", stripes, "cpu")


def test_noise_source_trains_without_shards(tmp_path: Path, tiny: Make, stripes: Category) -> None:
    options = tiny(steps=10, source="noise")
    facts = train(options, single(stripes, []), tmp_path / "run", cpu())
    assert facts["inputs"]["shards_sha256"] == "none" and facts["step"] == 10


def test_random_and_projected_channels_and_no_selection_train_too(
    tmp_path: Path, tiny: Make, stripes: Category, generated: Path
) -> None:
    tars = find_shards(generated)
    for i, changes in enumerate(
        ({"reduction": "rdr", "rrs": "off"}, {"reduction": "rlpr", "rrs": "avg"})
    ):
        options = tiny(steps=2, **changes)
        run = tmp_path / str(i)
        assert train(options, single(stripes, tars), run, cpu())["afs_losses"] == []
        assert score(run, stripes, "cpu")


def test_features_are_the_same_kept_in_memory_or_not(
    tmp_path: Path, tiny: Make, stripes: Category, generated: Path
) -> None:
    tars = find_shards(generated)
    kept = train(tiny(steps=12), single(stripes, tars), tmp_path / "kept", cpu())
    fresh = train(tiny(steps=12, cache_gib=0), single(stripes, tars), tmp_path / "fresh", cpu())
    for (_, a, b), (_, c, d) in zip(kept["curve"], fresh["curve"], strict=True):
        assert (a, b) == pytest.approx((c, d), rel=1e-2)


def test_changed_checkpoint_is_found_out_and_another_network_refused(
    trained: Path, stripes: Category, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    folder = runfolder.folder_of(run, stripes)
    weights = folder / "checkpoint.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(VerificationError, match="does not match the SHA-256"):
        checkpoint.load(folder, torch.device("cpu"))
    save_file({"something": torch.zeros(3)}, weights)
    document = json.loads((folder / "checkpoint.json").read_text())
    document["sha256"] = sha256_file(weights)
    (folder / "checkpoint.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="is not a network of recipe"):
        checkpoint.load(folder, torch.device("cpu"))


def test_one_training_image_and_tiny_images_are_refused(tmp_path: Path, tiny: Make) -> None:
    good = tmp_path / "data" / "alone" / "train" / "good"
    good.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(good / "0.png")
    alone = open_dataset(tmp_path / "data").one("alone")
    with pytest.raises(UserError, match="has 1 normal images to train on"):
        train(tiny(), single(alone, []), tmp_path / "run", cpu())
    Image.new("RGB", (3, 3)).save(good / "1.png")
    alone = open_dataset(tmp_path / "data").one("alone")
    with pytest.raises(UserError, match="is 3 x 3 pixels, smaller than the backbone's deepest"):
        train(tiny(), single(alone, []), tmp_path / "run", cpu())
    assert not (tmp_path / "run").exists()


def test_a_finished_training_grows_and_steps_in_between_can_be_scored(
    tmp_path: Path, tiny: Make, stripes: Category, generated: Path
) -> None:
    task, run = single(stripes, find_shards(generated)), tmp_path / "run"
    short = train(tiny(steps=20, keep_every=10), task, run, cpu())
    folder = runfolder.folder_of(run, stripes)
    assert score(run, stripes, "cpu", step=10)
    kept = scorefile.read(folder / "kept" / "step-00000010" / "scores")
    assert kept.protocol["checkpoint_rule"] == "step 10 of 20" and kept.run["steps"] == 10
    with pytest.raises(UserError, match=r"kept no step 20, but \[10\]"):
        score(run, stripes, "cpu", step=20)
    with pytest.raises(UserError, match="other options: steps: 20 there, 10 asked"):
        train(tiny(steps=10), task, run, cpu())
    grown = train(tiny(steps=30), task, run, cpu())
    assert grown["step"] == 30 and grown["grown"] == [[20, 20, 30]]
    assert grown["curve"][:2] == short["curve"] and len(grown["curve"]) == 3
    assert grown["sha256"] != short["sha256"] and grown["cpu_seconds"] > 0
    assert train(tiny(steps=30), task, run, cpu()) == grown
    score(run, stripes, "cpu")
    assert scorefile.read(folder / "scores").protocol["checkpoint_rule"] == "last"


def test_a_budget_chooses_the_steps_and_trains_like_them(
    tmp_path: Path, tiny: Make, stripes: Category, generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = single(stripes, find_shards(generated))
    monkeypatch.setattr(training.Loop, "_affordable", affordable := training.Loop._affordable)
    monkeypatch.setattr(training.Loop, "_affordable", lambda *a: affordable(*a) * 0 + 10)
    one = train(tiny(steps=0, budget_minutes=5.0), task, tmp_path / "budget", cpu())
    other = train(tiny(steps=10), task, tmp_path / "steps", cpu())
    assert one["step"] == one["total"] == 10 and one["speed"]["seconds_per_step"] > 0
    assert one["curve"] == other["curve"]
    score(tmp_path / "budget", stripes, "cpu")
    scores = runfolder.folder_of(tmp_path / "budget", stripes) / "scores"
    assert scorefile.read(scores).protocol["budget_minutes"] == 5.0
