"""Which device computes, and in which precision."""

from __future__ import annotations

import torch

from sia_gen.core.errors import UserError


def choose(name: str) -> torch.device:
    """Returns the device of that name; `auto` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device {name!r} is unknown: give auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: torch finds no GPU here; give --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Returns fp32, bf16 or fp16; `auto` is bf16 where the hardware multiplies it."""
    if name == "fp16" and device.type == "cpu":
        raise UserError("precision fp16 needs a GPU: give bf16 or fp32")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    found = torch.cpu.get_capabilities()
    return "bf16" if found.get("amx_bf16") or found.get("avx512_bf16") else "fp32"
