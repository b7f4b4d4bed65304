"""SDAS in place: an anomaly grown inside a given normal image, under a mask.

The image is noised to a level of the chain and comes back through SDAS steps of strength s; outside
the mask every step puts back what the normal image looks like at that level. Depth, the share of
the chain that is run, says how far the image may leave what stands there; strength how improbable
its way back may be. Putting back the known part is RePaint's idea (Lugmayr et al., CVPR 2022), the
start from a noised image SDEdit's (Meng et al., ICLR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8
from sia_gen.diffusion.sampling import DenoiserFunction, GradientFunction, reverse, to_uint8
from sia_gen.diffusion.scheduler import SDASScheduler, per_image_noise

Tensor = torch.Tensor


def steps_of(depth: float, steps: int) -> int:
    """Returns how many of a chain's steps a depth runs, at least one; UserError outside (0, 1]."""
    if not (math.isfinite(depth) and 0.0 < depth <= 1.0):
        raise UserError(f"depth {depth:g}: expected a number above 0, at most 1")
    return max(1, round(depth * steps))


def sample_in_place(
    denoiser: DenoiserFunction,
    scheduler: SDASScheduler,
    normal_BCHW: Tensor,
    mask_B1HW: Tensor,
    generators: Sequence[torch.Generator],
    strengths: Sequence[float],
    depth: float,
    gradient: GradientFunction | None = None,
) -> Tensor:
    """Returns images (B, C, H, W) in [-1, 1] that equal the normal ones where the mask is 0.

    `normal_BCHW` in [-1, 1], `mask_B1HW` in [0, 1] (1: grown anew; softer values mix at every
    level). A batch runs the same steps, so it shares its depth. An image depends on its own
    generator, normal image, mask, strength and the depth alone.
    """
    require_fit(normal_BCHW, mask_B1HW, generators, strengths)
    count = steps_of(depth, len(scheduler.timesteps))
    x_0, mask = normal_BCHW.float(), mask_B1HW.float()

    def noised(i: int) -> Tensor:
        """Returns the normal images as they look at level i of the chain."""
        t = torch.full((len(x_0),), int(scheduler.chain.timesteps[i]), device=x_0.device)
        noise = per_image_noise(x_0.shape, generators).to(x_0.device)
        return scheduler.add_noise(x_0, noise, t)

    def put_back(y: Tensor, i: int) -> Tensor:
        known = noised(i - 1) if i else x_0
        return mask * y + (1.0 - mask) * known

    return reverse(
        denoiser,
        scheduler,
        noised(count - 1),
        generators,
        strengths,
        gradient,
        steps=count,
        after=put_back,
    )


def require_fit(
    normal_BCHW: Tensor,
    mask_B1HW: Tensor,
    generators: Sequence[torch.Generator],
    strengths: Sequence[float],
) -> None:
    """Raises UserError where masks, seeds or strengths do not fit the images."""
    expected = (len(normal_BCHW), 1, *normal_BCHW.shape[2:])
    if tuple(mask_B1HW.shape) != expected:
        raise UserError(
            f"in place: masks of shape {_shown(mask_B1HW.shape)} for images of shape"
            f" {_shown(normal_BCHW.shape)}: expected {_shown(expected)}"
        )
    for i, mask in enumerate(mask_B1HW):
        low, high = float(mask.min()), float(mask.max())
        if not (low >= 0.0 and high <= 1.0):
            raise UserError(f"in place: mask {i} holds {low:g} to {high:g}: expected 0 to 1")
        if high == 0.0:
            raise UserError(f"in place: mask {i} is empty: there is nowhere to grow an anomaly")
    if not len(normal_BCHW) == len(generators) == len(strengths):
        raise UserError(
            f"in place: {len(normal_BCHW)} images, {len(generators)} seeds, {len(strengths)}"
            " strengths: expected one of each an image"
        )


def composed(grown_BCHW: Tensor, normal_BHWC: Array8, mask_B1HW: Tensor) -> Array8:
    """Returns grown images as bytes (B, H, W, 3): outside the mask the normal image, bit for bit.

    A gray model's images are gray inside the mask alone.
    """
    inside = mask_B1HW.permute(0, 2, 3, 1).cpu().numpy() > 0
    return np.where(inside, to_uint8(grown_BCHW), normal_BHWC)


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape)
