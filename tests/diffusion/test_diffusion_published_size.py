"""The published network, counted without computing: parameters and FLOPs of a forward pass."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from sia_gen.diffusion import memory
from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.unet import PRESETS, configuration


@pytest.fixture(scope="module")
def published() -> UNet2DModel:
    with torch.device("meta"):
        return UNet2DModel(
            **configuration(PRESETS["adm-256"], channels=3, classes=15, resolution=256)
        ).eval()


def test_one_pass_counts_the_published_flops(published: UNet2DModel) -> None:
    assert sum(p.numel() for p in published.parameters()) == 552_829_446
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        published(torch.empty(1, 3, 256, 256), torch.zeros(1), torch.zeros(1).long())
    assert counter.get_total_flops() / 1e12 == pytest.approx(2.24, abs=0.005)


def test_memory_is_told_before_the_start(published: UNet2DModel) -> None:
    def needed(checkpointing: bool, precision: str, batch: int) -> memory.MemoryEstimate:
        options = TrainOptions(
            data="d",
            categories="all",
            out="o",
            preset="adm-256",
            resolution=256,
            batch_size=batch,
            gradient_checkpointing=checkpointing,
        )
        return memory.estimate(published, 1, 3, options, precision)

    # Users of the published code report that 24 GB hold a batch of one and no more.
    one = needed(False, "fp32", 1)
    assert one.total < 24e9 < one.total + 2 * one.activations
    assert needed(True, "bf16", 2).activations < 0.5 * one.activations
    assert "warning" not in one.text(int(24e9))
    assert "use a smaller --batch-size" in " ".join(one.text(int(16e9)).split())
