"""What a training run of a diffusion model can be told; no torch here."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass
from typing import Any

from sia_gen.core import shared_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Checked):
    """Options of `sia-gen train`; `seed` and these decide every batch and every noise.

    From step `finish_from` on (0: never) the timesteps are those of the sampling chain of
    `finish_steps` alone, and the bound is taken on that chain. On the chain of 1000 steps beta and
    beta tilde nearly agree, so that the bound says little about the variance and a short training
    leaves it near beta: grain in the samples. On the sampling chain it is learned in a few hundred
    steps. The published training never does so (and takes 50,000 steps and more).
    """

    data: str = shared_options.data(MISSING)
    categories: str = shared_options.categories()
    value_range: tuple[float, float] | None = shared_options.value_range()
    out: str = option(help="Folder of the run; the model comes to OUT/model.", metavar="DIR")
    preset: str = option(
        "small-64", "Network: adm-256, adm-128, small-128, small-64 or tiny-16.", metavar="NAME"
    )
    prediction: str = option(
        "epsilon",
        "What the network predicts: the noise, as published, or the velocity (small runs).",
        choices=("epsilon", "v_prediction"),
    )
    resolution: int = option(64, "Side of the images in pixels.", low=1)
    tiles: int = option(
        0,
        "Train on crops of so many pixels of the images as they are: the model makes such patches.",
        low=0,
        metavar="SIDE",
        shown="whole images",
    )
    mirror: str = option(
        "none",
        "Train on mirrored copies too: where normal images look alike left to right, or upside"
        " down. A few hundred images are soon known by heart.",
        choices=("none", "horizontal", "vertical", "both"),
    )
    steps: int = option(10_000, "Optimiser steps.", low=1)
    batch_size: int = option(16, "Images a step and process.", low=1)
    accumulate: int = option(1, "Batches a step.", low=1)
    learning_rate: float = option(1e-4, "Adam's learning rate.", above=0)
    warmup: int = option(0, "Steps of linear warm-up.", low=0)
    decay: bool = option(False, "Cosine decay to a twentieth.", flag="--decay/--no-decay")
    ema: float = option(0.9999, "Decay of the averaged weights.", low=0, below=1)
    finish_from: int = option(
        0, "Step from which only sampling's timesteps train; 0: never.", low=0
    )
    finish_steps: int = option(20, "Sampling steps to finish for.", low=1)
    spacing: str = option(
        "leading",
        "Timesteps of the sampling chain: evenly spaced, as published, or more at low noise.",
        choices=("leading", "quadratic"),
    )
    even_phases: bool = option(
        False,
        "Sampling takes out the screen pattern of a space-to-depth preset.",
        flag="--even-phases/--no-even-phases",
    )
    sampler: str = option(
        "iddpm",
        "The model's own sampler, by which it is looked at and judged too.",
        choices=shared_options.SAMPLERS,
    )
    gradient_clip: float = option(1.0, "Largest gradient norm.", above=0, command_line=False)
    seed: int = option(0, "Decides weights, batches and noise.", low=0)
    precision: str = option(
        "auto", "Precision of the matrix work.", choices=("auto", "fp32", "bf16", "fp16")
    )
    device: str = shared_options.device()
    init: str = option("", "A model folder to start from.", metavar="MODEL")
    channels: str = option(
        "auto", "Of the images; auto is 1 where every image is gray.", choices=("auto", "1", "3")
    )
    gradient_checkpointing: bool = option(
        False,
        "Compute activations twice, to keep fewer of them.",
        flag="--gradient-checkpointing/--no-gradient-checkpointing",
    )
    checkpoint_every: int = option(500, "Steps between checkpoints.", low=1)
    keep: int = option(2, "Checkpoints kept.", low=1)
    sample_every: int = option(1000, "Steps between looks (sample grid, health); 0: none.", low=0)
    health_images: int = option(60, "s = 0 samples a category for the health check.", low=0)
    report_to: str = shared_options.report_to()
    save_precision: str = option(
        "fp32", "Precision of the saved weights.", choices=("fp32", "fp16", "bf16")
    )

    def __post_init__(self) -> None:
        """Refuses values that no run could use, by their names."""
        super().__post_init__()
        if self.tiles and self.tiles != self.resolution:
            raise UserError(
                f"tiles {self.tiles} and resolution {self.resolution} differ: with tiles the"
                " network sees squares of their side, so leave out the resolution"
            )

    @property
    def sampling_steps(self) -> int:
        """The steps that samples of this run take: those it is finished for, or else 20."""
        return self.finish_steps if self.finish_from else 20

    def identity(self) -> dict[str, Any]:
        """Returns the options a resumed run must share: all but where and how often it saves."""
        free = {"out", "keep", "checkpoint_every", "sample_every", "device", "health_images"}
        free |= {"report_to"}
        found = {name: value for name, value in asdict(self).items() if name not in free}
        # Runs that began before there was a choice go on.
        for name, before in (
            ("spacing", "leading"),
            ("even_phases", False),
            ("sampler", "iddpm"),
            ("value_range", None),
            ("tiles", 0),
            ("mirror", "none"),
        ):
            if found[name] == before:
                del found[name]
        return found
