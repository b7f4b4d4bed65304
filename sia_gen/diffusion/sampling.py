"""The sampling loop of SDAS: a function over any denoiser (RealNet, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from sia_gen.core.pixels.images import Array8
from sia_gen.core.seeds import derive_seed
from sia_gen.diffusion.scheduler import SDASScheduler, per_image_noise

Tensor = torch.Tensor
# x_t (B, C, H, W) and timesteps (B,) -> noise and variance prediction (B, 2C, H, W)
DenoiserFunction = Callable[[Tensor, Tensor], Tensor]
# x_t (B, C, H, W) and timesteps (B,) -> scale * grad_x log p(class | x_t), (B, C, H, W)
GradientFunction = Callable[[Tensor, Tensor], Tensor]


def image_generators(seeds: Sequence[int] | Sequence[torch.Generator]) -> list[torch.Generator]:
    """Returns one CPU generator per image: start and step noise of an image are its own.

    A generator that is given stays what it is.
    """
    return [
        seed
        if isinstance(seed, torch.Generator)
        else torch.Generator().manual_seed(derive_seed(seed, "noise"))
        for seed in seeds
    ]


@torch.no_grad()
def reverse(
    denoiser: DenoiserFunction,
    scheduler: SDASScheduler,
    x_t: Tensor,
    generators: Sequence[torch.Generator],
    strengths: Sequence[float],
    gradient: GradientFunction | None = None,
    *,
    steps: int | None = None,
    after: Callable[[Tensor, int], Tensor] | None = None,
) -> Tensor:
    """Returns x_0 (B, C, H, W), float32, from x_t through the chain's last `steps` (all: None).

    `after(x, i)` may change what step i (0: the last one) has made.
    """
    strength = torch.tensor(list(strengths), dtype=torch.float32, device=x_t.device)
    count = len(scheduler.timesteps) if steps is None else steps
    previous: Tensor | None = None
    for i in range(count - 1, -1, -1):
        t = scheduler.timesteps[len(scheduler.timesteps) - 1 - i]
        step = t.to(x_t.device).expand(len(generators))
        prediction = denoiser(x_t, step)
        guide = None if gradient is None else gradient(x_t, step)
        made = scheduler.step(
            prediction, t, x_t, strength, generators, gradient=guide, previous=previous
        )
        previous = made.pred_original_sample
        x_t = made.prev_sample if after is None else after(made.prev_sample, i)
    return x_t


def sample(
    denoiser: DenoiserFunction,
    scheduler: SDASScheduler,
    shape: tuple[int, int, int],
    generators: Sequence[torch.Generator],
    strengths: Sequence[float],
    device: torch.device,
    gradient: GradientFunction | None = None,
) -> Tensor:
    """Returns images x_0 in [-1, 1], float32 (B, C, H, W), for one strength and generator each."""
    x_t = per_image_noise((len(generators), *shape), generators).to(device)
    return reverse(denoiser, scheduler, x_t, generators, strengths, gradient)


def to_uint8(x_BCHW: Tensor, *, truncate: bool = False) -> Array8:
    """Returns images in [-1, 1] as uint8 RGB (B, H, W, 3): (x + 1) * 127.5, rounded and clipped.

    One gray channel is repeated three times. `truncate` cuts fractions off, as RealNet's code does.
    """
    scaled = (x_BCHW.float() + 1.0) * 127.5
    scaled = (scaled if truncate else scaled.round()).clamp(0, 255).to(torch.uint8)
    if scaled.shape[1] == 1:
        scaled = scaled.expand(-1, 3, -1, -1)
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


def to_tensor(images_BHWC: npt.NDArray[np.uint8], channels: int) -> Tensor:
    """Returns uint8 RGB images as float32 (B, C, H, W) in [-1, 1]; one channel takes the first."""
    x = torch.from_numpy(np.ascontiguousarray(images_BHWC[..., :channels])).permute(0, 3, 1, 2)
    return x.float() / 127.5 - 1.0
