"""The trackers that a training can report to; what they are told is in sia_gen/compute."""

from __future__ import annotations

from typing import Any

from sia_gen.core.options import option

TRACKERS = ("none", "tensorboard", "wandb", "mlflow")


def report_to() -> Any:
    """Returns the option field of both trainers."""
    return option(
        "none", "Tell losses, rates and looks to a tracker; its files: OUT/logs.", choices=TRACKERS
    )
