"""A small dataset of striped surfaces, shards for it, and a recipe that learns in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from shard_files import write_record, write_tar

from detector.data.task import single
from detector.models import realnet
from detector.options import TrainOptions, resolve
from detector.training.train import accelerator_for, train
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.store.shards import Synthetic, find_shards

torch.set_num_threads(1)

SIZE = 32
TINY: dict[str, Any] = {
    "backbone": "resnet18",
    "weights": "random",
    "layers": "1",
    "channels": "12",
    "afs_batches": 2,
    "standardise": True,
    "unet_blocks": 1,
    "unet_attention": False,
    "resolution": SIZE,
    "batch_size": 8,
    "steps": 20,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "holdout": 0.0,
}


def surface(rng: np.random.Generator) -> Array8:
    """A vertically striped gray surface, uint8 (32, 32, 3)."""
    x = np.arange(SIZE)
    stripes = 128 + 50 * np.sin(x / 2.0 + rng.uniform(0, 6.28))
    gray = stripes[None, :] + rng.normal(0, 4, (SIZE, SIZE))
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _write(path: Path, image: Array8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def write_category(root: Path, train: int = 24, test: int = 12) -> None:
    """A category of striped surfaces; a defect is a flat, dark square."""
    rng = np.random.default_rng(7)
    for i in range(train):
        _write(root / "train" / "good" / f"{i:03}.png", surface(rng))
    for i in range(test):
        _write(root / "test" / "good" / f"{i:03}.png", surface(rng))
        image = surface(rng)
        mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
        top, left = rng.integers(2, SIZE - 12, 2)
        mask[top : top + 10, left : left + 10] = 255
        image[mask > 0] = 60
        _write(root / "test" / "patch" / f"{i:03}.png", image)
        _write(root / "ground_truth" / "patch" / f"{i:03}_mask.png", mask)


def write_shard(run: Path, category: str, images: list[Array8], number: int = 0) -> Path:
    """A finished shard of a category (dataset/name) below a run folder."""
    dataset, name = category.split("/")
    tar = run / "shards" / dataset / name / f"{name}-{number:05}.tar"
    samples = [
        Synthetic(key=f"{name}-{i:05}", image=image, metadata={"category": name, "index": i})
        for i, image in enumerate(images)
    ]
    facts = write_tar(tar, samples)
    write_record(tar, {"category": category, "spec_hash": "test", **facts})
    return tar


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset `line` with the categories stripes and stripes-b."""
    root = tmp_path_factory.mktemp("data") / "line"
    write_category(root / "stripes")
    write_category(root / "stripes-b", train=8, test=2)
    return root


@pytest.fixture(scope="session")
def stripes(line: Path) -> Category:
    """The category line/stripes."""
    return open_dataset(line).one("stripes")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generation run with one shard of synthetic images: horizontal stripes of other tones."""
    run = tmp_path_factory.mktemp("generated")
    rng = np.random.default_rng(3)
    images = [
        np.clip(surface(rng).transpose(1, 0, 2) * rng.uniform(0.3, 1.3), 0, 255).astype(np.uint8)
        for _ in range(12)
    ]
    write_shard(run, "line/stripes", images)
    return run


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TrainOptions]:
    """Makes the options of a network that trains in seconds, with changes."""
    return lambda **changes: resolve(
        "mobile",
        {
            k: v
            for k, v in {**TINY, **changes}.items()
            if k != "resolution" or not changes.get("tiles") or "resolution" in changes
        },
        realnet.Options,
    )


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same options as a recipe file."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump({"detector": TINY}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    tiny: Callable[..., TrainOptions],
    stripes: Category,
    generated: Path,
) -> Path:
    """A run with a trained detector of line/stripes; do not change it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    options = tiny(steps=60, holdout=0.2, report_to="tensorboard")
    accelerator = accelerator_for("cpu", "fp32", "tensorboard", run.parent)
    train(options, single(stripes, find_shards(generated)), run, accelerator)
    return run
