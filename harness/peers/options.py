"""What `harness peers run` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sia_gen.core import shared_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """What `harness peers run` was asked for."""

    data: str = shared_options.data()
    categories: str = shared_options.categories()
    value_range: tuple[float, float] | None = shared_options.value_range()
    models: str = option(
        help="Names separated by commas, or all; see `harness peers list`.",
        flag="--model",
        former=("models",),
        metavar="NAMES",
    )
    out: Path = option(
        help="Run folder: a folder for each model, category and seed.", metavar="RUN"
    )
    weights: str = option(
        "", "The backbone's weights; pretrained lets timm download.", metavar="FILE|pretrained"
    )
    backbone: str = option("", "timm's name.", metavar="NAME", shown="the weights file's own")
    layers: tuple[str, ...] = option(
        (),
        "Feature layers, e.g. blocks.2,blocks.4.",
        metavar="NAMES",
        shown="by each model's strides",
    )
    textures: str = option("", "Texture images (DTD) for models that paste them.", metavar="DIR")
    resolution: int = option(
        256, "Side of images and maps.", low=32, high=2048, former=("size",), metavar="PIXELS"
    )
    steps: int = option(1000, "Optimiser steps of models that train.", low=1)
    batch_size: int = option(8, "Images a step.", low=1, former=("batch",))
    train_images: int | None = option(
        None, "Take so many normal images, drawn by the seed.", low=1, shown="all"
    )
    seeds: tuple[int, ...] = option(
        (0,), "Everything random follows from one.", low=0, metavar="N,N,...", shown="0"
    )
    settings: tuple[str, ...] = option(
        (),
        "A model's own argument, or steps, batch_size, train_images; repeat.",
        flag="--set",
        metavar="MODEL.KEY=VALUE",
        repeat=True,
    )
    device: str = option("auto", "Where to train and score.", choices=("auto", "cpu", "cuda"))

    results: Path | None = option(
        None, "Results folder for the records; default RUN/results.", metavar="RESULTS"
    )
    minutes: float | None = option(
        None, "Stop a cell that takes longer: it becomes a failed row.", low=0.01, metavar="M"
    )

    def __post_init__(self) -> None:
        """Refuses values that no cell can have, and a seed that is given twice."""
        super().__post_init__()
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds {self.seeds}: expected different numbers, 0 or above")
