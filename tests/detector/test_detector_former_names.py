"""Runs and recipes of before options had one name everywhere: they are read and mean the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from detector.inference.score import protocol_of
from detector.models.realnet import Options
from detector.options import TrainOptions, resolve, restored
from detector.run_folder import differences
from sia_gen.core.options import current_names

RECORDED: dict[str, Any] = {
    "recipe": "mine", "model": "realnet", "source": "noise", "resolution": 64, "batch": 8,
    "steps": 5, "epochs": 0, "lr": 1e-3, "schedule": "constant", "seed": 3, "precision": "fp32",
    "holdout": 0.0, "foreground": True, "protocol": "last", "look_every": 0, "patience": 0,
    "allow_foreign_shards": False, "checkpoint_seconds": 120.0, "cache_gib": 2.0,
    "methods": {"noise": {}},
    "options": {"backbone": "dct_gray", "weights": "none", "layers": [0, 1], "channels": [16, 16]},
}  # fmt: skip


def test_recorded_options_of_before_are_read() -> None:
    options = restored(RECORDED)
    assert (options.batch_size, options.learning_rate) == (8, 1e-3)
    now = {"options": dataclasses.asdict(options)}
    assert differences({"options": RECORDED}, now) == []


def test_a_recipe_of_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"detector": {"batch": 8, "lr": 2e-3, "steps": 5}}))
    made = resolve(str(path), {"source": "noise", "batch": 4}, Options)
    assert (made.batch_size, made.learning_rate) == (4, 2e-3)


def test_results_of_before_and_now_share_a_row() -> None:
    """The hash was computed by the version that called them batch and lr."""
    facts = {
        "options": current_names(TrainOptions, RECORDED, "record"),
        "inputs": {"weights_sha256": "none", "shards_sha256": "none", "train_images": 9},
        "sha256": "ab", "backbone": "dct_gray", "backbone_sha256": "cd", "precision": "fp32",
        "device": "cpu",
    }  # fmt: skip
    found = protocol_of(facts)
    assert found["options_sha256"].startswith("f2d2233851983bd6")
    assert (found["batch"], found["lr"]) == (8, 1e-3)
