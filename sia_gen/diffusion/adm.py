"""ADM ("guided-diffusion") checkpoints as diffusers' UNet2DModel: shape and weights, one to one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from sia_gen.core.errors import UserError

StateDict = dict[str, torch.Tensor]

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclass(frozen=True, kw_only=True)
class ADMShape:
    """An ADM network's shape, as far as its weights tell it."""

    widths: tuple[int, ...]
    layers: int
    attention: tuple[bool, ...]
    channels: int
    classes: int


def block_kinds(state: StateDict, side: str) -> list[list[str]]:
    """Returns for every input or output block the kinds of its parts: conv, residual, attention."""
    parts: dict[tuple[int, int], str] = {}
    for name in state:
        if match := re.match(rf"{side}\.(\d+)\.(\d+)\.(.+)", name):
            rest = match[3]
            kind = "residual" if "in_layers" in rest else "attention" if "qkv" in rest else ""
            key = (int(match[1]), int(match[2]))
            parts[key] = kind or parts.get(key, "conv")
            if kind:
                parts[key] = kind
    blocks: list[list[str]] = [[] for _ in range(1 + max((i for i, _ in parts), default=-1))]
    for (i, _), kind in sorted(parts.items()):
        blocks[i].append(kind)
    return blocks


def read_shape(state: StateDict) -> ADMShape:
    """Returns the shape of an ADM U-Net; UserError where the weights are of something else."""
    for name in ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight"):
        if name not in state:
            raise UserError(f"this is no ADM U-Net: {name} is missing")
    if "label_emb.weight" not in state:
        raise UserError("this ADM U-Net is unconditional: label_emb.weight is missing")
    inputs, outputs = block_kinds(state, "input_blocks"), block_kinds(state, "output_blocks")
    # An output block ends with a second residual block where a level ends in an upsampling.
    levels = 1 + sum(block.count("residual") == 2 for block in outputs)
    layers = len(inputs) // levels - 1
    if layers < 1 or len(inputs) != levels * (layers + 1) or len(outputs) != len(inputs):
        raise UserError(
            f"this ADM U-Net has {len(inputs)} input and {len(outputs)} output blocks, which"
            f" {levels} levels with residual up- and downsampling cannot have"
        )
    first = [1 + level * (layers + 1) for level in range(levels)]
    return ADMShape(
        widths=tuple(int(state[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0]) for i in first),
        layers=layers,
        attention=tuple("attention" in inputs[i] for i in first),
        channels=int(state["input_blocks.0.0.weight"].shape[1]),
        classes=int(state["label_emb.weight"].shape[0]),
    )


def unet_configuration(shape: ADMShape, *, resolution: int, head_channels: int) -> dict[str, Any]:
    """Returns the arguments of UNet2DModel for an ADM network."""
    down = tuple("AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in shape.attention)
    up = tuple("AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in shape.attention[::-1])
    return {
        "sample_size": resolution,
        "in_channels": shape.channels,
        "out_channels": 2 * shape.channels,
        "block_out_channels": shape.widths,
        "layers_per_block": shape.layers,
        "down_block_types": down,
        "up_block_types": up,
        "attention_head_dim": head_channels,
        "attn_norm_num_groups": 32,
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "num_class_embeds": shape.classes,
    }


def places(shape: ADMShape) -> dict[str, str]:
    """Returns where every ADM block lies in a UNet2DModel: `input_blocks.4.1` -> its new name."""
    found = {
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
    }
    levels = len(shape.widths)
    for level in range(levels):
        start = 1 + level * (shape.layers + 1)
        for j in range(shape.layers):
            found[f"input_blocks.{start + j}.0"] = f"down_blocks.{level}.resnets.{j}"
            found[f"input_blocks.{start + j}.1"] = f"down_blocks.{level}.attentions.{j}"
        found[f"input_blocks.{start + shape.layers}.0"] = f"down_blocks.{level}.downsamplers.0"
        up, last = level * (shape.layers + 1), level * (shape.layers + 1) + shape.layers
        has_attention = shape.attention[levels - 1 - level]
        for j in range(shape.layers + 1):
            found[f"output_blocks.{up + j}.0"] = f"up_blocks.{level}.resnets.{j}"
            if has_attention:
                found[f"output_blocks.{up + j}.1"] = f"up_blocks.{level}.attentions.{j}"
        end = 2 if has_attention else 1
        found[f"output_blocks.{last}.{end}"] = f"up_blocks.{level}.upsamplers.0"
    return found


def _attention(name: str, rest: str, value: torch.Tensor, head: int) -> StateDict:
    if rest.startswith("norm"):
        return {f"{name}.group_norm{rest.removeprefix('norm')}": value}
    value = value.squeeze(-1) if value.ndim == 3 else value
    if rest.startswith("proj_out"):
        return {f"{name}.to_out.0{rest.removeprefix('proj_out')}": value}
    # Stored per head as (head, 3, channels).
    split = value.reshape(-1, 3, head, *value.shape[1:])
    names = ("to_q", "to_k", "to_v")
    return {
        f"{name}.{part}{rest.removeprefix('qkv')}": split[:, i].reshape(-1, *value.shape[1:])
        for i, part in enumerate(names)
    }


def convert(state: StateDict, *, head_channels: int) -> StateDict:
    """Returns an ADM U-Net's weights under UNet2DModel's names; unknown names are an error."""
    return rename(state, places(read_shape(state)), _OUTSIDE, head_channels)


def rename(
    state: StateDict, places: dict[str, str], outside: dict[str, str], head_channels: int
) -> StateDict:
    """Returns weights under diffusers' names; a name without a place is an error."""
    converted: StateDict = {}
    unknown: list[str] = []
    for name, value in state.items():
        parts = name.split(".")
        found = next((outside[p] for p in outside if name.startswith(p + ".")), None)
        block = ".".join(parts[:3] if parts[0] != "middle_block" else parts[:2])
        if found is not None:
            converted[f"{found}.{parts[-1]}"] = value
        elif block not in places:
            unknown.append(name)
        elif ".attentions." in places[block]:
            converted |= _attention(places[block], name[len(block) + 1 :], value, head_channels)
        else:
            rest = ".".join(name[len(block) + 1 :].split(".")[:-1])
            if rest not in _RESIDUAL:
                unknown.append(name)
                continue
            converted[f"{places[block]}.{_RESIDUAL[rest]}.{parts[-1]}"] = value
    if unknown:
        raise UserError(f"ADM checkpoint: names that no ADM U-Net has: {', '.join(unknown[:5])}")
    return converted
