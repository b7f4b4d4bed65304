"""ADM's guidance classifiers as ADMClassifier: shape and weights, one to one."""

from __future__ import annotations

import math
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.diffusion import adm

POSITIONS = "out.2.positional_embedding"
_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2.qkv_proj": "pool.qkv_proj",
    "out.2.c_proj": "pool.c_proj",
    "out.2": "pool",
}


def is_classifier(state: adm.StateDict) -> bool:
    """Returns whether the weights have the attention pooling of a guidance classifier."""
    return POSITIONS in state


def read_shape(state: adm.StateDict, resolution: int) -> adm.ADMShape:
    """Returns the shape of a classifier for images of a resolution (pixels); UserError otherwise.

    A downsampling block looks like any other, so that the resolution must tell the levels: the
    pooling has one position for each pixel of the last level, and one for their mean.
    """
    for name in ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.c_proj.weight"):
        if name not in state:
            raise UserError(f"this is no ADM classifier: {name} is missing")
    blocks = adm.block_kinds(state, "input_blocks")
    side = math.isqrt(int(state[POSITIONS].shape[-1]) - 1)
    levels = 1 + round(math.log2(max(resolution / max(side, 1), 1.0)))
    layers = len(blocks) // levels - 1
    if side * 2 ** (levels - 1) != resolution or levels * (layers + 1) != len(blocks) or layers < 1:
        raise UserError(
            f"this ADM classifier pools {side} x {side} pixels behind {len(blocks)} input blocks,"
            f" which does not fit images of {resolution} pixels: give its --resolution"
        )
    first = [1 + level * (layers + 1) for level in range(levels)]
    return adm.ADMShape(
        widths=tuple(int(state[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0]) for i in first),
        layers=layers,
        attention=tuple("attention" in blocks[i] for i in first),
        channels=int(state["input_blocks.0.0.weight"].shape[1]),
        classes=int(state["out.2.c_proj.weight"].shape[0]),
    )


def configuration(shape: adm.ADMShape, *, resolution: int, head_channels: int) -> dict[str, Any]:
    """Returns the arguments of ADMClassifier."""
    return {
        "sample_size": resolution,
        "in_channels": shape.channels,
        "block_out_channels": shape.widths,
        "layers_per_block": shape.layers,
        "down_block_types": tuple(
            "AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in shape.attention
        ),
        "attention_head_dim": head_channels,
        "num_classes": shape.classes,
    }


def convert(state: adm.StateDict, shape: adm.ADMShape, *, head_channels: int) -> adm.StateDict:
    """Returns a classifier's weights under ADMClassifier's names; unknown names are an error."""
    return adm.rename(state, adm.places(shape), _OUTSIDE, head_channels)
