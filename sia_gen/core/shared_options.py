"""The options that several commands have: one name, default and help text for the same thing."""

from __future__ import annotations

from typing import Any

from sia_gen.core.options import option

# The reverse steps of SDAS (sia_gen/diffusion/scheduler.py), and what leaves it to the model.
SAMPLERS = ("iddpm", "ddim", "dpmpp-2m-sde")
AUTO = "auto"
TRACKERS = ("none", "tensorboard", "wandb", "mlflow")


def data(default: Any = "textures", shown: str = "") -> Any:
    """Returns the field of --data, required where the default is `dataclasses.MISSING`."""
    text = "A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md)."
    return option(default, text, metavar="DATA", shown=shown)


def categories(default: str | None = "all", shown: str = "") -> Any:
    """Returns the field of --categories."""
    text = "all, or names and globs separated by commas."
    return option(default, text, metavar="NAMES", shown=shown, former=("category",))


def value_range(shown: str = "measured") -> Any:
    """Returns the field of --range, `tuple[float, float] | None`."""
    text = "Black and white of files of more than 8 bits."
    return option(None, text, flag="--range", metavar="LOW HIGH", shown=shown)


def device() -> Any:
    """Returns the field of --device."""
    return option("auto", "auto, cpu, cuda or cuda:N.", metavar="DEVICE")


def report_to() -> Any:
    """Returns the field of --report-to."""
    text = "Tell losses, rates and looks to a tracker; its files: OUT/logs."
    return option("none", text, choices=TRACKERS)
