"""The lean form of a network computes what diffusers' UNet2DModel computes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel

from sia_gen.diffusion.lean import LeanUNet
from sia_gen.diffusion.unet import Preset, configuration

# Two layers, attention on two levels, an odd number of channels a group: every path of a preset.
SHAPE = Preset(
    resolution=64, widths=(32, 64, 96), layers=2, attention_factors=(2, 4), head_channels=32
)


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    unet = UNet2DModel(**configuration(SHAPE, channels=3, classes=4, resolution=64)).eval()
    for parameter in unet.parameters():
        # Norms are born as 1 and 0, which would hide a mistake in folding them.
        parameter.data += 0.05 * torch.randn_like(parameter)
    return unet


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([450]), torch.tensor([2])


@torch.no_grad()
def test_float32_agrees_with_diffusers(network: Any) -> None:
    x, t, label = inputs()
    expected = network(x, t.expand(3), class_labels=label.expand(3)).sample
    found = LeanUNet(copy.deepcopy(network), torch.float32)(x, t, label)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_bf16_stays_near_and_images_do_not_see_each_other(network: Any) -> None:
    x, t, label = inputs(5)
    expected = network(x, t.expand(5), class_labels=label.expand(5)).sample
    lean = LeanUNet(copy.deepcopy(network), torch.bfloat16)
    found = lean(x, t, label)
    cast = copy.deepcopy(network).bfloat16()(x.bfloat16(), t.expand(5), label.expand(5)).sample
    error, usual = ((y.float() - expected).square().mean().sqrt() for y in (found, cast))
    assert float(error) < 1.1 * float(usual)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(lean(x[order], t, label), found[order])
    other = x.clone()
    other[1:] = 7.0
    assert torch.equal(lean(other, t, label)[0], found[0])
