"""Device and precision: one answer for diffusion models and detectors."""

from __future__ import annotations

import pytest
import torch

from sia_gen.compute import device as room
from sia_gen.core.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("multiplies", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_only_where_the_gpu_multiplies_it(
    multiplies: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return multiplies or including_emulation  # older GPUs emulate it, slower than fp32

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert room.choose_precision("auto", GPU) == precision
    assert room.choose_precision("fp16", GPU) == "fp16"


@pytest.mark.parametrize(("flag", "precision"), [("amx_bf16", "bf16"), ("avx2", "fp32")])
def test_auto_takes_bf16_only_where_the_cpu_multiplies_it(
    flag: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: True})
    room.cpu_has_fast_bf16.cache_clear()
    assert room.choose_precision("auto", CPU) == precision
    room.cpu_has_fast_bf16.cache_clear()


def test_what_a_device_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        room.choose_precision("fp16", CPU)
    with pytest.raises(UserError, match="torch sees no GPU"):
        room.choose_device("cuda:0")
    with pytest.raises(UserError, match="is unknown: use auto, cpu, cuda"):
        room.choose_device("gpu")
    assert room.choose_device("auto") == CPU
