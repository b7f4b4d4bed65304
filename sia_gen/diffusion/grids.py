"""A grid of samples while a model trains: one row a class, always the same seeds."""

from __future__ import annotations

from pathlib import Path

import torch

from sia_gen.core.files import write_bytes
from sia_gen.core.images import encode_png, grid
from sia_gen.core.seeds import derive_seed
from sia_gen.diffusion.device import autocast, choose_precision
from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.sampling import image_generators, sample, to_uint8
from sia_gen.diffusion.scheduler import SDASScheduler

COLUMNS = 8


def write_sample_grid(
    path: Path, denoiser: torch.nn.Module, options: TrainOptions, channels: int, classes: int
) -> None:
    """Writes a PNG with s = 0 samples of every class, from the network as it stands."""
    device = next(denoiser.parameters()).device
    precision = choose_precision(options.precision, device)
    scheduler = SDASScheduler(prediction_type=options.prediction)
    scheduler.set_timesteps(options.sampling_steps)
    rows = []
    for label in range(classes):
        labels = torch.full((COLUMNS,), label, device=device)
        seeds = [derive_seed("grid", label, i) for i in range(COLUMNS)]

        def denoise(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor = labels) -> torch.Tensor:
            with autocast(device, precision):
                return denoiser(x, t, y).float()

        shape = (channels, options.resolution, options.resolution)
        x_0 = sample(denoise, scheduler, shape, image_generators(seeds), [0.0] * COLUMNS, device)
        rows.append(list(to_uint8(x_0)))
    write_bytes(path, encode_png(grid(rows), level=6))
