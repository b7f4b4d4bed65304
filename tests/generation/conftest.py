"""Fixtures of the generation job: a tiny dataset, a finished run, and one Ray cluster."""

from __future__ import annotations

from pathlib import Path

import gen_support
import numpy as np
import pytest
from gen_support import run

from sia_gen.core.pixels.images import encode_png
from sia_gen.generate.options import ExecutionOptions


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three categories with three images each."""
    root = tmp_path_factory.mktemp("data") / gen_support.DATASET
    for number, category in enumerate(gen_support.CATEGORIES):
        folder = root / category / "train" / "good"
        folder.mkdir(parents=True)
        for index in range(3):
            image = np.full((20, 20, 3), 40 * number + 10 * index, dtype=np.uint8)
            (folder / f"{index}.png").write_bytes(encode_png(image))
    return root


@pytest.fixture(scope="session")
def finished(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run in this process; tests only read it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    run(gen_support.options(out, mini), ExecutionOptions(executor="local"))
    return out
