"""Fixtures of the generation job: a tiny dataset, a finished run, and one Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import gen_support
import numpy as np
import pytest

from sia_gen.core.pixels.images import encode_png
from sia_gen.generate.options import ExecutionOptions
from sia_gen.generate.run import run


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


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """One Ray cluster of two CPUs for the whole session: its address."""
    os.environ.update(
        RAY_DEDUP_LOGS_SKIP_REGEX=".*",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_memory_monitor_refresh_ms="0",
    )
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
    )
    yield str(context.address_info["gcs_address"])
    ray.shutdown()
