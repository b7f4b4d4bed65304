"""Training: it learns, it resumes exactly after SIGKILL, and what it saves is an ordinary model."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from children import Child
from tracked import pictures, scalars

from sia_gen.cli.train import merged_options
from sia_gen.core import pip_weights
from sia_gen.core.errors import StoppedError, UserError
from sia_gen.core.pixels.images import encode_png, read_image
from sia_gen.diffusion.generator import load_generator
from sia_gen.diffusion.loop import Loop
from sia_gen.diffusion.model_folder import FACTS, WEIGHTS, describe
from sia_gen.diffusion.normals import batch_indices, read_normals
from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.sampling import to_uint8
from sia_gen.diffusion.train import train

SIZE = 16


def stripes(vertical: bool, rng: np.random.Generator) -> np.ndarray:
    """A 16 x 16 gray pattern: soft stripes of period 8, of random phase, contrast and tone."""
    phase, contrast, tone = rng.uniform(0, 2 * np.pi), rng.uniform(30, 80), rng.uniform(90, 165)
    wave = tone + contrast * np.sin(2 * np.pi * np.arange(SIZE) / 8 + phase)
    image = np.tile(wave, (SIZE, 1)) + rng.normal(0, 8, (SIZE, SIZE))
    return np.clip(image if vertical else image.T, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "stripes"
    rng = np.random.default_rng(0)
    for name in ("across", "down"):
        folder = root / name / "train" / "good"
        folder.mkdir(parents=True)
        for i in range(80):
            (folder / f"{i:03}.png").write_bytes(encode_png(stripes(name == "down", rng)))
    return root


def options(data: Path, out: Path, **changes: object) -> TrainOptions:
    values: dict[str, object] = {
        "data": str(data),
        "categories": "all",
        "out": str(out),
        "preset": "tiny-16",
        "resolution": SIZE,
        "steps": 20,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "ema": 0.9,
        "precision": "fp32",
        "device": "cpu",
        "checkpoint_every": 5,
        "health_images": 2,
    }
    return TrainOptions(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def untrained_features() -> Iterator[None]:
    """Judges stripes of 16 pixels with the fallback: figures do not hang on what is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pip_weights, "installed", lambda _: False)
        yield


@pytest.fixture(scope="module")
def learned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learned") / "run"
    return train(
        options(
            data,
            out,
            steps=90,
            batch_size=12,
            prediction="v_prediction",
            learning_rate=3e-3,
            warmup=10,
            decay=True,
            ema=0.97,
            health_images=16,
            checkpoint_every=45,
            sample_every=90,
            report_to="tensorboard",
        )
    )


def test_tiles_are_crops_of_the_images_as_they_are(data: Path, tmp_path: Path) -> None:
    asked = options(data, tmp_path, tiles=8, resolution=8)
    seen, again = read_normals(asked), read_normals(asked)
    assert seen.images.shape == (2 * 72 * 8, 8, 8, 3) and (seen.images == again.images).all()
    assert {len(images) for images in seen.held_out.values()} == {8 * 8}
    whole = [read_image(path) for path in sorted((data / "across/train/good").glob("*.png"))]
    windows = np.lib.stride_tricks.sliding_window_view(np.stack(whole), (8, 8), axis=(1, 2))
    parts = {part.tobytes() for part in windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 8, 8, 3)}
    assert {image.tobytes() for image in seen.held_out["across"]} <= parts
    with pytest.raises(UserError, match="smaller than a tile of 32"):
        read_normals(options(data, tmp_path, tiles=32, resolution=32))
    with pytest.raises(UserError, match="differ: with tiles"):
        options(data, tmp_path, tiles=8)
    merged = merged_options(None, {"data": "x", "out": "y", "tiles": 32})
    assert merged.resolution == 32 and "tiles" not in options(data, tmp_path).identity()


def test_mirrored_copies_join_the_training_images_alone(data: Path, tmp_path: Path) -> None:
    plain = read_normals(options(data, tmp_path))
    both = read_normals(options(data, tmp_path, mirror="both"))
    assert len(both.images) == len(both.labels) == 4 * len(plain.images)
    for k in (0, len(plain.images) - 1):
        image, copies = plain.images[k], both.images[4 * k : 4 * k + 4]
        for copy, expected in zip(
            copies, (image, image[::-1], image[:, ::-1], image[::-1, ::-1]), strict=True
        ):
            np.testing.assert_array_equal(copy, expected)
    for name, held in plain.held_out.items():
        np.testing.assert_array_equal(both.held_out[name], held)


def test_it_learns(
    learned: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = describe(learned)
    losses = [row["mse"] for row in facts.training["losses"]]
    assert losses[-1] < 0.5 * losses[0]
    told = options(data, tmp_path / "run", steps=1)
    first = describe(train(told)).health
    assert "next: look at it, sia-gen preview" in capsys.readouterr().err
    logs = learned.parent / "logs"
    assert scalars(logs)["mse"][-1][0] == 90
    (shown,) = pictures(logs)["samples"]
    sheet = read_image(learned.parent / "samples" / "step-0000090.png")
    assert shown[0] == 90 and (shown[1] == sheet).all()
    assert facts.health["worst_relative"] < 0.2 * first["worst_relative"]
    assert first["passed"] is False
    made = load_generator(learned, device="cpu", precision="fp32").images(
        "down", range(8), [0.0] * 8
    )
    # Vertical stripes vary along a row and hardly along a column.
    along_row = np.abs(np.diff(made.astype(float), axis=2)).mean()
    along_column = np.abs(np.diff(made.astype(float), axis=1)).mean()
    assert along_row > 1.1 * along_column
    assert (learned.parent / "samples" / "step-0000090.png").is_file()
    look = json.loads((learned.parent / "samples" / "step-0000090.json").read_text())
    assert set(look["categories"]) == {"across", "down"}
    assert look["categories"]["down"].keys() >= {"kid", "kid_train", "relative_to_train"}
    # Another set of seeds of the same weights: the same order of magnitude as the final check.
    assert 0.2 < look["worst_relative"] / facts.health["worst_relative"] < 5.0
    kept = sorted(p.name for p in (learned.parent / "checkpoints").iterdir())
    assert kept == ["step-0000045", "step-0000090"]


def test_stock_diffusers_gives_the_same_image_at_strength_zero(learned: Path) -> None:
    from diffusers import DDPMScheduler, UNet2DModel

    generator = load_generator(learned, device="cpu", precision="fp32")
    ours = generator.images("across", [7], [0.0])
    unet = UNet2DModel.from_pretrained(str(learned), subfolder="unet").eval()
    scheduler = DDPMScheduler.from_pretrained(str(learned), subfolder="scheduler")
    scheduler.set_timesteps(20)
    from sia_gen.diffusion.sampling import image_generators

    random = image_generators([7])[0]
    x = torch.randn((1, SIZE, SIZE), generator=random)[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = unet(x, t, class_labels=torch.tensor([0])).sample
            x = scheduler.step(output, t, x, generator=random).prev_sample
    theirs = to_uint8(x)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_an_image_does_not_depend_on_its_neighbours(learned: Path) -> None:
    generator = load_generator(learned, device="cpu", precision="fp32")
    batch = generator.images("down", [1, 2, 3], [0.0, 0.1, 0.2])
    alone = generator.images("down", [2], [0.1])
    assert np.abs(batch[1].astype(int) - alone[0].astype(int)).max() <= 1
    assert not np.array_equal(batch[0], batch[1])


def test_strength_moves_the_image_away(learned: Path) -> None:
    generator = load_generator(learned, device="cpu", precision="fp32")
    seeds = list(range(12))
    base, mild, strong = (
        generator.images("down", seeds, [s] * 12).astype(float) for s in (0.0, 0.2, 2.0)
    )
    assert np.abs(mild - base).mean() < np.abs(strong - base).mean()


def train_here(asked: TrainOptions) -> None:
    train(asked)


def test_a_killed_or_stopped_run_resumes_to_the_same_losses_and_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)  # as the child has
    whole = train(options(data, tmp_path / "whole"))
    out = tmp_path / "killed"
    child = Child(tmp_path / "stderr", train_here, options(data, out))
    deadline = time.monotonic() + 120
    while not (out / "checkpoints" / "step-0000010").exists():
        assert child.alive, child.said()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (out / "model").exists()
    resumed = train(options(data, out))
    assert describe(resumed).checkpoint_sha256 == describe(whole).checkpoint_sha256

    def losses(run: Path) -> list[dict[str, float]]:
        return [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]

    assert losses(out) == losses(tmp_path / "whole")
    step = Loop._step

    def signalled(self: Loop, number: int) -> dict[str, float]:
        if number == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number)

    monkeypatch.setattr(Loop, "_step", signalled)
    out = tmp_path / "stopped"
    with pytest.raises(StoppedError, match=r"after step 13 of 20.* run the same command") as told:
        train(options(data, out))
    assert told.value.exit_code == 143
    assert (out / "checkpoints" / "step-0000013").is_dir()
    monkeypatch.undo()
    assert (
        describe(train(options(data, out))).checkpoint_sha256 == describe(whole).checkpoint_sha256
    )
    assert losses(out) == losses(tmp_path / "whole")


def test_a_finished_run_is_done_and_other_options_are_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = train(options(data, out, steps=2))
    stamp = (first / FACTS).stat().st_mtime_ns
    assert train(options(data, out, steps=2)) == first
    assert (first / FACTS).stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="seed: 0 before, 1 now"):
        train(options(data, out, steps=2, seed=1))
    with pytest.raises(UserError, match="no training run"):
        train(options(data, data))


def test_a_torn_checkpoint_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sia_gen.diffusion import checkpoints

    whole = dict.fromkeys(checkpoints.KEYS, 0)
    checkpoints.save(tmp_path, 1, {**whole, "step": 1}, keep=3)
    checkpoints.save(tmp_path, 2, {**whole, "step": 2}, keep=3)
    state = tmp_path / "step-0000002" / "state.pt"
    state.write_bytes(state.read_bytes()[:-20])
    loaded = checkpoints.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert "step-0000002 is skipped" in capsys.readouterr().err


def test_changed_and_nan_weights_are_refused(learned: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from sia_gen.core.provenance import sha256_file

    copy = tmp_path / "model"
    shutil.copytree(learned, copy)
    weights = load_file(copy / WEIGHTS)
    name = sorted(weights)[0]
    weights[name] = weights[name] * float("nan")
    save_file(weights, copy / WEIGHTS)
    with pytest.raises(UserError, match="not the file its record names"):
        load_generator(copy, device="cpu")
    facts = json.loads((copy / FACTS).read_text())
    facts["checkpoint_sha256"] = sha256_file(copy / WEIGHTS)
    (copy / FACTS).write_text(json.dumps(facts))
    with pytest.raises(UserError, match="holds NaN"):
        load_generator(copy, device="cpu")


def test_too_few_images_and_unknown_names(data: Path, tmp_path: Path) -> None:
    few = tmp_path / "few" / "part" / "train" / "good"
    few.mkdir(parents=True)
    for i in range(5):
        (few / f"{i}.png").write_bytes(encode_png(np.zeros((SIZE, SIZE), np.uint8)))
    with pytest.raises(UserError, match="holds 5 images"):
        train(options(tmp_path / "few", tmp_path / "a"))
    with pytest.raises(UserError, match="Did you mean tiny-16"):
        train(options(data, tmp_path / "b", preset="tiny-61"))
    with pytest.raises(UserError, match="Did you mean down"):
        train(options(data, tmp_path / "c", categories="downn"))
    with pytest.raises(UserError, match="learning_rate"):
        options(data, tmp_path / "d", learning_rate=float("nan"))


def test_every_image_is_seen_once_an_epoch() -> None:
    seen = np.concatenate([batch_indices(10, 4, 3, step) for step in range(5)])
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))
    np.testing.assert_array_equal(batch_indices(3, 8, 0, 2), batch_indices(3, 8, 0, 2))
