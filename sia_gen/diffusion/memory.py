"""What a training step will need in memory, told before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.unet import Denoiser


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes of a training process: what stays, and what a batch needs on top."""

    parameters: int
    state: int
    activations: int

    @property
    def total(self) -> int:
        """The sum, in bytes."""
        return self.state + self.activations

    def text(self, free: int | None) -> str:
        """Returns the estimate as a line; a warning where it exceeds the free memory (bytes)."""
        line = (
            f"{self.parameters / 1e6:.1f} M parameters; memory about {self.total / 1e9:.2f} GB:"
            f" {self.state / 1e9:.2f} GB weights, gradients, Adam and EMA,"
            f" {self.activations / 1e9:.2f} GB activations of a batch"
        )
        if free is None:
            return line
        line += f"; {free / 1e9:.1f} GB are free"
        if self.total > free:
            line += (
                "\nwarning: that is more than is free: expect to run out of memory; use a smaller"
                " --batch-size with --accumulate, --gradient-checkpointing, or --precision bf16"
            )
        return line


def estimate(
    network: Any, patch: int, channels: int, options: TrainOptions, precision: str
) -> MemoryEstimate:
    """Returns the estimate for a network: a forward pass of one image without any data (meta).

    Counted is what autograd keeps for the backward pass; half precision halves it and adds a copy
    of the weights. Allocators and workspaces of libraries come on top.
    """
    parameters = sum(p.numel() for p in network.parameters())
    with torch.device("meta"):
        twin = type(network).from_config(network.config)
        if options.gradient_checkpointing:
            twin.enable_gradient_checkpointing()
        denoiser = Denoiser(twin.train(), patch)
        side = options.resolution
        x, t, y = torch.empty(1, channels, side, side), torch.zeros(1), torch.zeros(1).long()
    own = {p.untyped_storage()._cdata for p in twin.parameters()}
    # Held until the count is done: a freed storage's address would be given out again.
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        denoiser(x, t, y)
    saved = sum(v.untyped_storage().nbytes() for k, v in kept.items() if k not in own)
    full = precision == "fp32"
    return MemoryEstimate(
        parameters=parameters,
        state=parameters * (20 if full else 22),
        activations=saved * options.batch_size // (1 if full else 2),
    )


def free_memory(device: torch.device) -> int | None:
    """Returns the free memory of a GPU, or of this machine, in bytes; None where it is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
