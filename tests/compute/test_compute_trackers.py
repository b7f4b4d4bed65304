"""What a training tells its tracker, read back from TensorBoard's files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sia_gen.compute import trackers
from sia_gen.core.errors import UserError


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of the event files below a folder, by their tags."""
    reader: Any = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra `test` has it"
    )
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted({file.parent for file in folder.rglob("events.out.tfevents.*")}):
        events = reader.EventAccumulator(str(path))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend((e.step, e.value) for e in events.Scalars(tag))
    return found


def test_values_lie_under_their_names_and_steps_run_by_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    accelerator = trackers.accelerator_for("cpu", "fp32", "tensorboard", tmp_path)
    for name, scale in (("line/a", 1.0), ("line/b", 2.0)):
        trackers.begin(accelerator, name, {"steps": 2, "inner": {"rate": 0.1}, "list": [1]})
        for step in (10, 20):
            accelerator.log({"loss": scale * step}, step=step)
        trackers.end(accelerator)
    assert read(tmp_path / "logs" / "line-a")["loss"] == [(10, 10.0), (20, 20.0)]
    assert read(tmp_path / "logs" / "line-b")["loss"] == [(10, 20.0), (20, 40.0)]


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
