"""Which device a network runs on, and in which precision."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext

import torch

from sia_gen.core.errors import UserError


def choose_device(name: str) -> torch.device:
    """Returns the device: `auto` takes a GPU where there is one; an absent one is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: torch sees no GPU here; use --device cpu, or auto")
    return device


@functools.cache
def cpu_has_fast_bf16() -> bool:
    """Returns whether the CPU multiplies bf16 in hardware (AMX or AVX512-BF16)."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def choose_precision(name: str, device: torch.device) -> str:
    """Returns fp32, bf16 or fp16; `auto` is bf16 where the device multiplies it, else fp32.

    A GPU without bf16 (before Ampere) gets fp32 by itself, though fp16 would be faster there: fp16
    ends at 65,504, which squared residuals and losses pass, and a choice that nobody made must not
    cost accuracy. Who wants the speed says fp16. Emulated bf16 does not count: it is slower than
    fp32. UserError for fp16 on a CPU.
    """
    if name == "fp16" and device.type == "cpu":
        raise UserError("precision fp16 needs a GPU; use bf16 or fp32 on a CPU")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_has_fast_bf16() else "fp32"


def network_dtype(precision: str) -> torch.dtype:
    """Returns the type of weights and activations while sampling in a precision."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Returns the context in which matrix work runs in this precision; weights stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, network_dtype(precision))
