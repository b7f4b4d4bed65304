"""Networks: every preset is a configuration of diffusers' UNet2DModel.

`patch` folds p x p pixels into channels before the network and unfolds them behind it: a
permutation, under which the noise stays white, the losses equal, and the finest and dearest level
disappears. The published networks use patch 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sia_gen.core.errors import UserError, near_names

Tensor = torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A network's shape: widths and residual blocks of its levels, attention by factor."""

    resolution: int
    widths: tuple[int, ...]
    layers: int
    attention_factors: tuple[int, ...]
    head_channels: int
    patch: int = 1


PRESETS = {
    # ADM at 256 x 256 as published: 552,829,446 parameters with 15 classes.
    "adm-256": Preset(
        resolution=256,
        widths=(256, 256, 512, 512, 1024, 1024),
        layers=2,
        attention_factors=(8, 16, 32),
        head_channels=64,
    ),
    "adm-128": Preset(
        resolution=128,
        widths=(256, 256, 512, 768, 1024),
        layers=2,
        attention_factors=(4, 8, 16),
        head_channels=64,
    ),
    # One GPU, a few hundred photographs.
    "small-128": Preset(
        resolution=128,
        widths=(64, 128, 256, 256),
        layers=2,
        attention_factors=(4, 8),
        head_channels=32,
        patch=2,
    ),
    # Two CPU cores: about 4.6 M parameters, 0.3 s a training step at batch 16.
    "small-64": Preset(
        resolution=64,
        widths=(64, 96, 128),
        layers=1,
        attention_factors=(4,),
        head_channels=32,
        patch=2,
    ),
    # Learns simple patterns within seconds: for tests and first tries.
    "tiny-16": Preset(
        resolution=16,
        widths=(32, 64),
        layers=1,
        attention_factors=(),
        head_channels=32,
    ),
}


def preset(name: str) -> Preset:
    """Returns a preset by name; an unknown one lists the known."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is unknown.{near_names(name, list(PRESETS))}")
    return PRESETS[name]


def configuration(shape: Preset, *, channels: int, classes: int, resolution: int) -> dict[str, Any]:
    """Returns the arguments of UNet2DModel for a preset at a resolution (pixels)."""
    side, factor = resolution, shape.patch * 2 ** (len(shape.widths) - 1)
    if side % factor:
        raise UserError(
            f"resolution {resolution} is not a multiple of {factor}, as the preset needs"
        )
    attention = [2**i in shape.attention_factors for i in range(len(shape.widths))]
    folded = channels * shape.patch**2
    return {
        "sample_size": side // shape.patch,
        "in_channels": folded,
        "out_channels": 2 * folded,
        "block_out_channels": shape.widths,
        "layers_per_block": shape.layers,
        "down_block_types": tuple(
            "AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attention
        ),
        "up_block_types": tuple(
            "AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attention)
        ),
        "attention_head_dim": shape.head_channels,
        # Without this the middle block's attention silently loses its norm.
        "attn_norm_num_groups": 32,
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "num_class_embeds": classes,
    }


def fold(x_BCHW: Tensor, patch: int) -> Tensor:
    """Returns patch x patch pixels as channels: (B, C p^2, H / p, W / p)."""
    return functional.pixel_unshuffle(x_BCHW, patch) if patch > 1 else x_BCHW


def unfold(out: Tensor, patch: int) -> Tensor:
    """Returns the two halves of a network's output at full resolution, (B, 2C, H, W)."""
    if patch == 1:
        return out
    return torch.cat([functional.pixel_shuffle(o, patch) for o in out.chunk(2, dim=1)], 1)


def even_phases(
    out: Tensor, folded_BCHW: Tensor, product: float, channels: int, prediction_type: str
) -> Tensor:
    """Returns a folded network's output (B, 2C, H, W) whose x_0 has no screen pattern.

    Folding makes a pattern of the fold's period a constant of a channel, which group norms take
    out: the network cannot see how much of it the noise holds, and leaves it in the image (two grey
    levels on every brick). Photographs hold next to none (0.3), so that the prediction's part is
    known: the one whose x_0 has equal means over the fold's phases. `product` is the cumulative
    product of the alphas at the network's timestep.
    """
    half = out.shape[1] // 2
    prediction, variance = out.float().split(half, dim=1)

    def pattern(x: Tensor) -> Tensor:
        phases = x.float().mean(dim=(2, 3)).view(len(x), channels, -1)
        return (phases - phases.mean(dim=2, keepdim=True)).view(len(x), half, 1, 1)

    wanted = pattern(folded_BCHW) / (1.0 - product) ** 0.5
    if prediction_type == "v_prediction":
        wanted = wanted * product**0.5
    return torch.cat([prediction - pattern(prediction) + wanted, variance], dim=1)


class Denoiser(nn.Module):
    """A UNet2DModel over images: (B, C, H, W), timesteps (B,), classes (B,) -> (B, 2C, H, W).

    The first C channels of the result predict the noise, the others the variance's v in [-1, 1].
    """

    def __init__(self, unet: nn.Module, patch: int = 1) -> None:
        super().__init__()
        self.unet, self.patch = unet, patch

    def forward(self, x_BCHW: Tensor, t_B: Tensor, class_B: Tensor) -> Tensor:
        """Returns the prediction for noisy images at timesteps and classes."""
        out = self.unet(fold(x_BCHW, self.patch), t_B, class_labels=class_B).sample
        return unfold(out, self.patch)
