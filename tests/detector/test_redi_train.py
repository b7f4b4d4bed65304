"""ReDi end to end on small images: it learns, goes on after a kill, its bank travels with it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from children import Child, detector
from click.testing import CliRunner
from PIL import Image
from scipy.stats import mannwhitneyu

from detector import checkpoint, scorefile
from detector import maps as infer
from detector import run_folder as runfolder
from detector.cli.main import group
from detector.data.task import single
from detector.inference import info, steps
from detector.inference.export import export
from detector.inference.predict import PredictOptions, predict
from detector.inference.score import score
from detector.models import rd, redi
from detector.options import TrainOptions, resolve
from detector.overlay import CAPTION
from detector.training.train import accelerator_for, train
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image
from sia_gen.core.pixels.masks import read_mask

SMALL: dict[str, Any] = {
    "model": "redi",
    "source": "none",
    "backbone": "resnet18",
    "weights": "random",
    "layers": [1, 2],
    "layer_weights": [1, 1],
    "retrieval_layer": 3,
    "recover_width": 8,
    "map_cell": 4,
    "aggregation_blocks": 1,
    "decoder_blocks": [1, 1],
    "sigma": 1,
    "resolution": 32,
    "batch_size": 8,
    "steps": 80,
    "recover_share": 0.5,
    "recover_lr": 3e-3,
    "learning_rate": 3e-3,
    "precision": "fp32",
}
Make = Callable[..., TrainOptions]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of a ReDi that learns in seconds."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump({"detector": SMALL}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def small(recipe: Path) -> Make:
    """Makes the recipe's options, with changes."""
    plugins = {"redi": redi, "rd": rd}
    return lambda **changes: resolve(
        str(recipe), changes, plugins[changes.get("model", "redi")].Options
    )


def cpu() -> Any:
    return accelerator_for("cpu", "fp32")


@pytest.fixture(scope="module")
def recovered(tmp_path_factory: pytest.TempPathFactory, small: Make, stripes: Category) -> Path:
    """A run with a trained ReDi of line/stripes; do not change it."""
    run = tmp_path_factory.mktemp("redi") / "run"
    train(small(holdout=0.2), single(stripes, []), run, cpu())
    return run


def test_small_training_tells_defects_from_normal_images(
    recovered: Path, stripes: Category
) -> None:
    folder = runfolder.folder_of(recovered, stripes)
    assert score(recovered, stripes, "cpu", force=True)
    scores = scorefile.read(folder / "scores")
    labels = [bool(item["anomalous"]) for item in scores.items]
    values = np.array([item["score_max"] for item in scores.items])
    above = mannwhitneyu(values[labels], values[np.logical_not(labels)]).statistic
    assert above / (sum(labels) * (len(labels) - sum(labels))) > 0.8
    inside = scores.maps_NHW[scores.masks_NHW > 0].mean()
    assert inside > 1.2 * scores.maps_NHW[scores.masks_NHW == 0].mean()
    protocol = scores.protocol
    assert protocol["detector"] == "redi" and protocol["source"] == "none"
    assert protocol["map"] == "hog" and protocol["prompt"] == "pretrained"
    facts = checkpoint.read_facts(folder)
    assert facts["parts"] == {
        "recover": ["squared", "gradients"],
        "discriminate": ["cosine", "self_correlation"],
    }
    curve = {step: sum(parts) for step, *parts in facts["curve"]}
    assert curve[40] < 0.7 * curve[10] and curve[80] < 0.7 * curve[50]
    text = info.describe(facts)
    assert "recover hip" in text and "self_correlation" in text


def test_defects_are_replaced_by_what_is_normal(recovered: Path, stripes: Category) -> None:
    folder = runfolder.folder_of(recovered, stripes)
    trained = checkpoint.load(folder, torch.device("cpu"))
    model = trained.model
    assert isinstance(model, redi.ReDi)
    errors: dict[bool, list[float]] = {True: [], False: []}
    for example in stripes.test:
        image = torch.from_numpy(read_image(example.path, 32)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            parts = model.parts(image)
        assert parts.layers_BnRR.shape == (1, 2, 32, 32)
        assert parts.recovered_B3RR.min() >= 0 and parts.recovered_B3RR.max() <= 1
        assert torch.equal(parts.maps_BRR, model(image))
        error = (parts.recovered_B3RR - image).abs().mean(1)[0]
        if example.mask is None:
            errors[False].append(float(error.mean()))
        else:
            mask = torch.from_numpy(read_mask(example.mask, 32))
            errors[True].append(float(error[mask].mean()))
    assert np.mean(errors[True]) > 1.5 * np.mean(errors[False])


def test_bank_holds_training_images_only_and_travels_in_the_checkpoint(
    recovered: Path, stripes: Category
) -> None:
    used, held = runfolder.split_training(stripes, 0.2)
    trained = checkpoint.load(runfolder.folder_of(recovered, stripes), torch.device("cpu"))
    bank = trained.model.recovery.bank
    kept = {image.numpy().tobytes() for image in bank.images}
    assert len(kept) == len(used) == trained.facts["bank"][0]
    wanted = [read_image(p, 32).transpose(2, 0, 1).tobytes() for p in used]
    assert kept == set(wanted)
    strangers = [*held, *(e.path for e in stripes.test)]
    assert not kept & {read_image(p, 32).transpose(2, 0, 1).tobytes() for p in strangers}


def test_prediction_decides_by_a_threshold_from_held_out_images(
    recovered: Path, stripes: Category, tmp_path: Path
) -> None:
    model = runfolder.folder_of(recovered, stripes)
    source = stripes.root / "test" / "patch"
    summary = predict(source, model, tmp_path / "out", PredictOptions(device="cpu"))
    assert summary["images"] == 12 and "held-out normal" in summary["threshold_from"]
    assert summary["anomalous"] > 6
    pictures = sorted((tmp_path / "out" / "overlays").glob("*.jpg"))
    assert len(pictures) == 12
    options = PredictOptions(device="cpu", steps=True)
    predict(stripes.test[0].path, model, tmp_path / "steps", options)
    [picture] = (tmp_path / "steps" / "steps").glob("*.png")
    # input, map, prompt, recovered, two layers, score
    with Image.open(picture) as shown:
        assert shown.size == (7 * 32 + 6 * steps.GAP, 32 + CAPTION)


def test_export_holds_retrieval_and_bank_and_refuses_canny(
    recovered: Path, stripes: Category, tmp_path: Path
) -> None:
    folder = runfolder.folder_of(recovered, stripes)
    described = export(folder, tmp_path / "part.pt2", "torch")
    assert described["largest_deviation"] <= 1e-3 and (tmp_path / "part.pt2").is_file()
    options = redi.Options(backbone="resnet18", weights="random", map="canny")
    with pytest.raises(UserError, match="map canny cannot be exported"):
        redi.build(options, 0).check_export()


def _command(line: Path, recipe: Path, out: Path, *more: str) -> list[str]:
    command = ["train", "--data", str(line)]
    command += ["--category", "stripes", "--recipe", str(recipe), "--out", str(out)]
    return [*command, "--device", "cpu", *more]


def test_training_killed_in_both_stages_ends_like_an_uninterrupted_one(
    tmp_path: Path, small: Make, recipe: Path, line: Path, stripes: Category
) -> None:
    quick = {"steps": 40, "checkpoint_seconds": 0.001, "recover": "iihp"}
    settings = ["--steps", "40", "--set", "checkpoint_seconds=0.001", "--set", "recover=iihp"]
    command = _command(line, recipe, tmp_path / "killed", *settings)
    folder = tmp_path / "killed" / "line" / "stripes"

    def saved() -> int:
        return max((int(p.name[5:]) for p in (folder / "state").glob("step-*")), default=0)

    for least in (10, 30):  # the stages change at step 20
        child = Child(tmp_path / "stderr", detector, *command)
        limit = time.monotonic() + 150
        while saved() < least and time.monotonic() < limit and child.alive:
            time.sleep(0.002)
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"
        assert not (folder / "checkpoint.json").exists()
        assert saved() >= least
    options = small(**quick)
    task = single(stripes, [])
    resumed = train(options, task, tmp_path / "killed", cpu())
    whole = train(options, task, tmp_path / "whole", cpu())
    assert [c[0] for c in resumed["curve"]] == [c[0] for c in whole["curve"]]
    assert resumed["sha256"] == whole["sha256"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "rd", "recover": "none", "lambda_s": 0.0},
        {"recover": "imi", "cosine": "regional"},
        {"prompt": "none", "map": "canny", "lambda_s": 0.0},
        {"prompt": "self_supervised", "map": "sobel", "correlation": "spatial"},
        {"block": "encoder", "map": "roberts", "map_scale": "image", "prompt_rank": 2},
        {"recover": "none", "block": "encoder", "optimizer": "adam"},
        {"scaling": "centre", "linear_features": True, "bank_limit": 5, "map_colour": "max"},
    ],
)
def test_every_variant_trains_and_is_restored_as_it_was(
    tmp_path: Path, small: Make, stripes: Category, changes: dict[str, Any]
) -> None:
    options = small(steps=12, holdout=0.0, **changes)
    facts = train(options, single(stripes, []), tmp_path / "run", cpu())
    stages = list(facts["parts"])
    assert stages[-1] == "discriminate"
    assert ("recover" in stages) == (options.options["recover"] != "none")
    assert ("describe" in stages) == (changes.get("prompt") == "self_supervised")
    assert len(facts["parts"]["discriminate"]) == 1 + (options.options["lambda_s"] > 0)
    folder = runfolder.folder_of(tmp_path / "run", stripes)
    trained = checkpoint.load(folder, torch.device("cpu"))
    images = np.stack([read_image(p, 32) for p in stripes.train[:3]])
    maps = infer.anomaly_maps(trained.model, images, torch.device("cpu"))
    wanted = [float(m.max()) for m in maps]
    assert facts["reference"]["score_max"][:3] == pytest.approx(wanted, rel=1e-3)
    assert np.isfinite(maps).all() and (maps >= -1e-5).all()


def test_training_images_do_not_prompt_themselves_when_scored(
    recovered: Path, stripes: Category
) -> None:
    trained = checkpoint.load(runfolder.folder_of(recovered, stripes), torch.device("cpu"))
    model = trained.model
    assert isinstance(model, redi.ReDi) and model.recovery is not None
    bank = model.recovery.bank
    assert bank is not None
    images = bank.images.float() / 255
    _, description = model.reference(images)
    assert description is not None
    places, likeness = bank.choose(images, description)
    assert not bool((places == torch.arange(len(images))).any())
    assert bool((likeness < 1 - 1e-7).all())


def test_wrong_uses_are_refused_in_one_line(line: Path, recipe: Path, tmp_path: Path) -> None:
    for more, match in (
        (["--source", "noise"], "takes no source but none"),
        (["--set", "map=hogg"], "map 'hogg': expected one of"),
        (["--steps", "1"], "1 steps are too few for 2 stages"),
        (["--resolution", "36"], "resolution 36 does not suit"),
    ):
        command = _command(line, recipe, tmp_path / f"run{more[1]}", *more)
        result = CliRunner().invoke(group, command)
        assert isinstance(result.exception, UserError) and match in str(result.exception)


def test_dry_run_of_the_papers_recipe_names_its_schedule(line: Path, tmp_path: Path) -> None:
    for name in ("redi", "rd"):
        arguments = ["train", "--data", str(line), "--recipe", name, "--out", str(tmp_path / "x")]
        arguments += ["--device", "cpu", "--dry-run"]
        result = CliRunner().invoke(group, arguments)
        assert result.exception is None
        options = json.loads(result.output)["options"]
        assert options["model"] == name and options["options"]["weights"] == "pretrained:tv_in1k"
    made = resolve("redi", {}, redi.Options)
    model_options = redi.Options(backbone="resnet18", weights="random")
    stages = redi.build(model_options, 0).stages(made, 320)  # 10 steps an epoch
    assert [(s.name, s.steps) for s in stages] == [("recover", 5000), ("discriminate", 3000)]
    recover, discriminate = stages
    rates = [recover.rate(step) for step in (1000, 1999, 2000, 3999, 4000, 4999)]
    assert rates == [5e-4, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4, 1.25e-4]
    assert [discriminate.rate(step) for step in (999, 1000, 2000)] == [5e-3, 2.5e-3, 1.25e-3]


def _write_kolektor(root: Path) -> None:
    """KolektorSDD2's layout: tall images, a mask beside each, defective ones among training's."""
    rng = np.random.default_rng(5)
    for split, first, count in (("train", 10000, 26), ("test", 20000, 12)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            height, width = int(rng.integers(60, 70)), int(rng.integers(20, 26))
            stripes = 120 + 50 * np.sin(np.arange(width) / 1.5 + rng.uniform(0, 6))
            gray = stripes[None] + rng.normal(0, 4, (height, width))
            mask = np.zeros((height, width), dtype=np.uint8)
            if i % 3 == 2:
                top, left = int(rng.integers(4, 40)), int(rng.integers(2, 12))
                mask[top : top + 16, left : left + 8] = 255
                gray[mask > 0] = 60
            image = np.clip(gray, 0, 255).astype(np.uint8)
            Image.fromarray(image).convert("RGB").save(root / split / f"{first + i}.png")
            Image.fromarray(mask).save(root / split / f"{first + i}_GT.png")


def test_kolektor_tree_end_to_end(tmp_path: Path, small: Make) -> None:
    _write_kolektor(tmp_path / "kolektorsdd2")
    category = open_dataset(tmp_path / "kolektorsdd2").one("all")
    assert len(category.train) == 18 and len(category.test) == 12
    facts = train(small(steps=40), single(category, []), tmp_path / "run", cpu())
    assert facts["inputs"]["train_images"] == 18
    assert score(tmp_path / "run", category, "cpu")
    folder = runfolder.folder_of(tmp_path / "run", category)
    scores = scorefile.read(folder / "scores")
    labels = np.array([item["anomalous"] for item in scores.items])
    values = np.array([item["score_max"] for item in scores.items])
    assert labels.sum() == 4 and scores.maps_NHW.shape == (12, 32, 32)
    above = mannwhitneyu(values[labels], values[~labels]).statistic
    assert above / (4 * 8) > 0.7
