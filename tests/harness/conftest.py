"""Fixtures of the harness tests: a small dataset, score folders, shards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_support import draw, scores_of
from PIL import Image
from reproduce_support import RECIPE
from shard_files import write_record, write_tar

from detector import scorefile
from harness import processes
from sia_gen.core.provenance import hash_options
from sia_gen.core.store.shards import Synthetic


@pytest.fixture
def small_dataset(tmp_path: Path) -> Path:
    """A dataset of two categories, 32 pixels, bright spots as defects, one of them unmasked."""
    root = tmp_path / "small"
    for c, category in enumerate(("bolt", "cloth")):
        for i in range(12):
            draw(root / category / "train" / "good" / f"{i}.png", 100 * c + i)
        for i in range(5):
            draw(root / category / "test" / "good" / f"{i}.png", 500 + 100 * c + i)
            path = root / category / "test" / "spot" / f"{i}.png"
            draw(path, 900 + 100 * c + i)
            pixels, mask = np.array(Image.open(path)), np.zeros((32, 32), dtype=np.uint8)
            pixels[8:16, 8 + i : 16 + i] = 230
            mask[8:16, 8 + i : 16 + i] = 255
            Image.fromarray(pixels).save(path)
            truth = root / category / "ground_truth" / "spot" / f"{i}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            if i:
                Image.fromarray(mask).save(truth)
    return root


@pytest.fixture
def score_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a score folder and returns it."""

    def make(name: str = "run", category: str = "toys/duck", **options: Any) -> Path:
        folder = tmp_path / name / category / "scores"
        scorefile.write(folder, scores_of(category, **options))
        return folder

    return make


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., Path]:
    """Writes a generation run of noise images for the categories of a dataset."""

    def make(name: str = "sia", count: int = 14, seed: int = 0, **spec: Any) -> Path:
        run = tmp_path / name
        for category in ("bolt", "cloth"):
            rng = np.random.default_rng([seed, len(category)])
            samples = []
            for i in range(count):
                gray = np.clip(rng.normal(128, 30, (32, 32, 1)), 0, 255).astype(np.uint8)
                samples.append(
                    Synthetic(key=f"{i:05}", image=gray.repeat(3, axis=2), metadata={"index": i})
                )
            tar = run / "shards" / "small" / category / f"{category}-00000.tar"
            facts = {"method": "sdas-1", "seed": seed, "s_low": 0.1, "s_high": 0.2, **spec}
            written = write_tar(tar, samples)
            record = {"category": f"small/{category}", "spec": facts, **written}
            write_record(tar, {**record, "spec_hash": hash_options(facts)})
        return run

    return make


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose commands are the fake ones; rules and the list of calls lie in `fake`."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "own.yaml").write_text(RECIPE)
    for name in ("sia-gen", "detector"):
        monkeypatch.setitem(processes.MODULES, name, "fake_commands")
    monkeypatch.setenv("FAKE_COMMANDS", str(tmp_path / "fake"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    return tmp_path
