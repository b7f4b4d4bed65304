"""Training in other shapes: two processes, checkpointed gradients, from imported weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import children
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sia_gen.core.errors import DivergedError, UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.diffusion import checkpoints
from sia_gen.diffusion.generator import load_generator
from sia_gen.diffusion.importing import import_adm
from sia_gen.diffusion.model_folder import WEIGHTS, describe
from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes") / "spots"
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        folder = root / name / "train" / "good"
        folder.mkdir(parents=True)
        for i in range(24):
            image = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            (folder / f"{i:02}.png").write_bytes(encode_png(image))
    return root


def options(data: Path, out: Path, **changes: object) -> TrainOptions:
    values: dict[str, object] = {
        "data": str(data),
        "categories": "all",
        "out": str(out),
        "preset": "tiny-16",
        "resolution": 16,
        "steps": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "ema": 0.5,
        "precision": "fp32",
        "device": "cpu",
        "health_images": 2,
        "sample_every": 0,
    }
    return TrainOptions(**{**values, **changes})  # type: ignore[arg-type]


def losses(run: Path) -> list[float]:
    lines = (run / "losses.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def command(data: Path, out: Path, *arguments: object) -> list[str]:
    given = ["train", "--data", data, "--out", out, "--preset", "tiny-16", "--resolution", 16]
    given += ["--batch-size", 4, "--learning-rate", 1e-3, "--ema", 0.5, "--precision", "fp32"]
    given += ["--device", "cpu", "--health-images", 2, "--sample-every", 0, *arguments]
    return [str(one) for one in given]


def test_two_processes_step_as_one_that_accumulates_two_batches(data: Path, tmp_path: Path) -> None:
    one = train(options(data, tmp_path / "one", accumulate=2))
    for rank in children.ranks(
        tmp_path, children.sia_gen, *command(data, tmp_path / "two", "--steps", 2)
    ):
        assert rank.wait() == 0, rank.said()
    two = tmp_path / "two" / "model"
    assert describe(two).training["processes"] == 2
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4)
    a, b = load_file(one / WEIGHTS), load_file(two / WEIGHTS)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)


def test_checkpointed_gradients_are_the_same_gradients(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train(options(data, tmp_path / "plain"))
    saved = train(options(data, tmp_path / "saved", gradient_checkpointing=True))
    assert losses(tmp_path / "plain") == losses(tmp_path / "saved")
    assert describe(plain).checkpoint_sha256 == describe(saved).checkpoint_sha256
    told = re.findall(r"memory about .* ([\d.]+) GB activations", capsys.readouterr().err)
    assert len(told) == 2
    assert float(told[1]) <= float(told[0])


def test_the_last_checkpoints_are_kept(data: Path, tmp_path: Path) -> None:
    train(options(data, tmp_path / "run", steps=4, checkpoint_every=1, keep=3, health_images=2))
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-0000002", "step-0000003", "step-0000004"]
    state = checkpoints.load_newest(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state["step"] == 4


def test_training_goes_on_from_imported_weights(golden: Path, data: Path, tmp_path: Path) -> None:
    model = import_adm(
        golden / "adm_unet_tiny.pt",
        tmp_path / "m",
        dataset="spots",
        classes=("one", "two"),  # the checkpoint has three: the embedding is new
        resolution=16,
        head_channels=16,
    )
    start = load_file(model / WEIGHTS)
    changes = {"init": str(model), "channels": "3", "learning_rate": 1e-5, "steps": 2, "ema": 0.0}
    trained = train(options(data, tmp_path / "run", **changes))
    ended = load_file(trained / WEIGHTS)
    assert start.keys() == ended.keys()
    moved = max(float((start[name] - ended[name]).abs().max()) for name in start)
    assert 0.0 < moved < 1e-4  # Adam moves a weight by about the rate a step
    assert load_generator(trained, device="cpu", steps=2).images("two", [1], [0.1]).shape[1] == 16
    for wrong, reason in (
        ({"categories": "one"}, "must agree"),
        ({"prediction": "v_prediction"}, "give --prediction epsilon"),
        ({"resolution": 18}, "not a multiple of 4"),
        ({"channels": "1"}, "must agree"),
    ):
        with pytest.raises(UserError, match=reason):
            train(options(data, tmp_path / "x", **{**changes, **wrong}))


def test_a_diverging_run_keeps_its_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DivergedError, match=r"the loss became .* at step [23]: the last checkpoint"
    ):
        train(options(data, tmp_path / "run", steps=3, learning_rate=1e30, checkpoint_every=1))
    assert DivergedError.exit_code == 6
    assert checkpoints.load_newest(tmp_path / "run" / "checkpoints") is not None
    assert not (tmp_path / "run" / "model").exists()
