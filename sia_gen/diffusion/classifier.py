"""ADM's guidance classifier: the U-Net's encoder with attention pooling, log p(class | x_t, t).

classifier/    config.json, diffusion_pytorch_model.safetensors
classifier.json  its classes by label, resolution, channels, and where it comes from
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block
from torch import nn
from torch.nn import functional

from sia_gen.core.errors import UserError
from sia_gen.diffusion.guidance_folder import NETWORK, describe

Tensor = torch.Tensor


class AttentionPool(nn.Module):
    """Pools a feature map into logits: the mean attends to every position (CLIP's pooling)."""

    def __init__(self, side: int, channels: int, head_channels: int, outputs: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        positions = torch.randn(channels, side**2 + 1) / channels**0.5
        self.positional_embedding = nn.Parameter(positions)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns logits (B, outputs) of features (B, C, side, side)."""
        x = x_BCHW.flatten(2)
        x = torch.cat([x.mean(dim=2, keepdim=True), x], dim=2) + self.positional_embedding
        # Here the three parts lie outside the heads; in the network's own attention inside.
        parts = self.qkv_proj(x).unflatten(1, (3, self.heads, -1)).transpose(3, 4)
        query, key, value = parts.unbind(dim=1)
        pooled = functional.scaled_dot_product_attention(query[:, :, :1], key, value)
        logits: Tensor = self.c_proj(pooled.transpose(2, 3).flatten(1, 2))
        return logits[:, :, 0]


class ADMClassifier(ModelMixin, ConfigMixin):
    """The encoder half of an ADM U-Net with attention pooling: images and timesteps -> logits."""

    @register_to_config
    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        block_out_channels: tuple[int, ...],
        layers_per_block: int,
        down_block_types: tuple[str, ...],
        attention_head_dim: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        first, last = block_out_channels[0], block_out_channels[-1]
        embedding = 4 * first
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, True, 0)
        self.time_embedding = TimestepEmbedding(first, embedding)
        shared: dict[str, Any] = {
            "temb_channels": embedding,
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": 32,
            "resnet_time_scale_shift": "scale_shift",
            "attention_head_dim": attention_head_dim,
        }
        widths = (first, *block_out_channels)
        self.down_blocks = nn.ModuleList(
            get_down_block(
                kind,
                num_layers=layers_per_block,
                in_channels=widths[level],
                out_channels=widths[level + 1],
                add_downsample=level + 1 < len(down_block_types),
                downsample_type="resnet",
                **shared,
            )
            for level, kind in enumerate(down_block_types)
        )
        self.mid_block = UNetMidBlock2D(in_channels=last, attn_groups=32, **shared)
        self.conv_norm_out = nn.GroupNorm(32, last, eps=1e-5)
        side = sample_size // 2 ** (len(down_block_types) - 1)
        self.pool = AttentionPool(side, last, attention_head_dim, num_classes)

    def forward(self, x_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Returns logits (B, classes) for noisy images (B, C, H, W) at timesteps (B,)."""
        row = self.time_embedding(self.time_proj(t_B).to(x_BCHW.dtype))
        x = self.conv_in(x_BCHW)
        for block in self.down_blocks:
            x, _ = block(x, row)
        x = self.mid_block(x, row)
        logits: Tensor = self.pool(functional.silu(self.conv_norm_out(x)))
        return logits


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """A classifier on a device: its gradient moves the mean of each reverse step."""

    network: ADMClassifier
    classes: tuple[str, ...]
    scale: float
    checkpoint_sha256: str

    def gradient(self, x_BCHW: Tensor, t_B: Tensor, category: str) -> Tensor:
        """Returns scale * grad_x log p(category | x_t, t), float32 (B, C, H, W)."""
        with torch.enable_grad():
            x = x_BCHW.detach().float().requires_grad_(True)
            log_p = functional.log_softmax(self.network(x, t_B), dim=1)
            chosen = log_p[:, self.classes.index(category)].sum()
            (gradient,) = torch.autograd.grad(chosen, x)
        return gradient * self.scale


def load_guidance(
    folder: Path,
    scale: float,
    *,
    resolution: int,
    channels: int,
    classes: tuple[str, ...],
    device: torch.device,
) -> Guidance:
    """Returns a classifier that fits a model, in float32; UserError where it does not."""
    facts = describe(folder)
    facts.require_fit(resolution=resolution, channels=channels, classes=classes)
    try:
        network = ADMClassifier.from_pretrained(
            str(folder), subfolder=NETWORK, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"classifier {folder}: it cannot be loaded: {error}") from error
    for name, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"classifier {folder}: weight {name} holds NaN or infinite values")
    network = network.float().to(device).eval().requires_grad_(False)
    return Guidance(
        network=network,
        classes=facts.classes,
        scale=scale,
        checkpoint_sha256=facts.checkpoint_sha256,
    )
