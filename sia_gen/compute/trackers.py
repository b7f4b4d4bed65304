"""Losses, rates and looks of a training, told to TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, encode_png


def accelerator_for(
    device: str, precision: str, report_to: str = "none", out: Path = Path()
) -> Any:
    """Returns accelerate's Accelerator for a device and a resolved precision, with a tracker.

    What a tracker writes to disk lies in `out`/logs. UserError where its package is missing.
    """
    import torch
    from accelerate import Accelerator

    mixed = {"fp32": "no"}.get(precision, precision)
    asked: dict[str, Any] = {}
    if report_to != "none":
        if importlib.util.find_spec(report_to) is None:
            raise UserError(
                f"--report-to {report_to}: its package is missing: pip install {report_to}"
            )
        asked = {"log_with": report_to, "project_dir": str(out / "logs")}
    return Accelerator(mixed_precision=mixed, cpu=torch.device(device).type == "cpu", **asked)


def begin(accelerator: Any, name: str, options: dict[str, Any]) -> None:
    """Starts a tracker's run under a name, with the options as its configuration."""
    if accelerator.log_with:
        plain = {k: v for k, v in _flat(options).items() if isinstance(v, int | float | str | bool)}
        accelerator.init_trackers(name.replace("/", "-"), config=plain)


def picture(accelerator: Any, name: str, picture_HW3: Array8, step: int) -> None:
    """Shows the trackers a uint8 picture; MLflow keeps it as the file NAME/STEP.png."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({name: picture_HW3[None]}, step=step, dataformats="NHWC")
        elif tracker.name == "wandb":
            tracker.log_images({name: [picture_HW3]}, step=step)
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{step:07}.png"
                path.write_bytes(encode_png(picture_HW3, level=6))
                tracker.log_artifact(str(path), name)


def end(accelerator: Any) -> None:
    """Ends the tracker's run; the accelerator may begin another."""
    if accelerator.log_with:
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers = []


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found
