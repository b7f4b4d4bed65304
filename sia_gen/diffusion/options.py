"""What a training run of a diffusion model can be told; no torch here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sia_gen.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `sia-gen train`; `seed` and these decide every batch and every noise.

    From step `finish_from` on (0: never) the timesteps are those of the sampling chain of
    `finish_steps` alone, and the bound is taken on that chain. On the chain of 1000 steps beta and
    beta tilde nearly agree, so that the bound says little about the variance and a short training
    leaves it near beta: grain in the samples. On the sampling chain it is learned in a few hundred
    steps. The published training never does so (and takes 50,000 steps and more).
    """

    data: str
    categories: str
    out: str
    preset: str = "small-64"
    prediction: str = "epsilon"
    resolution: int = 64
    steps: int = 10_000
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: int = 0
    decay: bool = False
    ema: float = 0.9999
    finish_from: int = 0
    finish_steps: int = 20
    gradient_clip: float = 1.0
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    init: str = ""
    channels: str = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every: int = 500
    keep: int = 2
    sample_every: int = 1000
    health_images: int = 60
    save_precision: str = "fp32"
    value_range: tuple[float, float] | None = None  # of files of more than 8 bits; None: measured

    def __post_init__(self) -> None:
        """Refuses values that no run could use, by their names."""
        for name in (
            "resolution",
            "steps",
            "batch_size",
            "accumulate",
            "checkpoint_every",
            "keep",
            "finish_steps",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: expected at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(f"learning_rate {self.learning_rate}: expected a number above 0")
        if not 0.0 <= self.ema < 1.0:
            raise UserError(f"ema {self.ema}: expected 0 <= ema < 1")
        for name, known in (
            ("prediction", ("epsilon", "v_prediction")),
            ("precision", ("auto", "fp32", "bf16", "fp16")),
            ("save_precision", ("fp32", "fp16", "bf16")),
            ("channels", ("auto", "1", "3")),
        ):
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name} {getattr(self, name)!r}: expected one of {', '.join(known)}"
                )

    @property
    def sampling_steps(self) -> int:
        """The steps that samples of this run take: those it is finished for, or else 20."""
        return self.finish_steps if self.finish_from else 20

    def identity(self) -> dict[str, Any]:
        """Returns the options a resumed run must share: all but where and how often it saves."""
        free = {"out", "keep", "checkpoint_every", "sample_every", "device", "health_images"}
        found = {name: value for name, value in asdict(self).items() if name not in free}
        given = found.pop("value_range")
        return found | ({"value_range": list(given)} if given else {})
