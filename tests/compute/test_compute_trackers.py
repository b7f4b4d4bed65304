"""What a training tells its tracker, read back from TensorBoard's files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tracked import pictures, scalars

from sia_gen.compute import trackers
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image


def test_values_lie_under_their_names_and_steps_run_by_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    accelerator = trackers.accelerator_for("cpu", "fp32", "tensorboard", tmp_path)
    for name, scale in (("line/a", 1.0), ("line/b", 2.0)):
        trackers.begin(accelerator, name, {"steps": 2, "inner": {"rate": 0.1}, "list": [1]})
        for step in (10, 20):
            accelerator.log({"loss": scale * step}, step=step)
        trackers.end(accelerator)
    assert scalars(tmp_path / "logs" / "line-a")["loss"] == [(10, 10.0), (20, 20.0)]
    assert scalars(tmp_path / "logs" / "line-b")["loss"] == [(10, 20.0), (20, 40.0)]


def test_pictures_come_back_as_they_were_and_other_trackers_get_their_own_form(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard")
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    accelerator = trackers.accelerator_for("cpu", "fp32", "tensorboard", tmp_path)
    trackers.begin(accelerator, "line/a", {})
    trackers.picture(accelerator, "maps/held_out", picture, 30)
    trackers.end(accelerator)
    (found,) = pictures(tmp_path / "logs")["maps/held_out"]
    assert found[0] == 30 and (found[1] == picture).all()
    told: list[Any] = []
    wandb = SimpleNamespace(name="wandb", log_images=lambda *a, **k: told.append((a, k)))
    mlflow = SimpleNamespace(
        name="mlflow", log_artifact=lambda path, name: told.append((read_image(Path(path)), name))
    )
    trackers.picture(SimpleNamespace(trackers=[wandb, mlflow]), "samples", picture, 7)
    (values,), keywords = told[0]
    assert values["samples"][0] is picture and keywords == {"step": 7}
    assert (told[1][0] == picture).all() and told[1][1] == "samples"


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    accelerator = trackers.accelerator_for("cpu", "fp32", "none", tmp_path)
    trackers.begin(accelerator, "line/a", {"steps": 2})
    accelerator.log({"loss": 1.0}, step=1)
    trackers.end(accelerator)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_told_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None))
    monkeypatch.setattr(trackers, "importlib", nothing)
    with pytest.raises(UserError, match="pip install mlflow"):
        trackers.accelerator_for("cpu", "fp32", "mlflow", tmp_path)
