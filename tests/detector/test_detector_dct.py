"""The network without weights: the block transform against SciPy's, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft

from detector.nets import backbone, dct
from detector.nets.backbone import BackboneOptions
from sia_gen.core.errors import UserError

GRAY = BackboneOptions(
    name="dct_gray", weights="none", layers=(0, 1), mean=(0, 0, 0), std=(1, 1, 1)
)


def gray_images(side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, side, side, generator=generator).expand(-1, 3, -1, -1)


def test_features_are_the_transforms_of_the_blocks_around_every_second_pixel() -> None:
    images = gray_images()
    fine, wide = backbone.build(GRAY)(images)
    assert fine.shape == (2, 16, 16, 16) and wide.shape == (2, 24, 16, 16)
    for features, side in ((fine, 4), (wide, 8)):
        rim = (side - 2) // 2
        padded = np.pad(images[1, 0].numpy(), rim, mode="reflect")
        block = padded[2 * 5 : 2 * 5 + side, 2 * 9 : 2 * 9 + side].astype(np.float64)
        expected = fft.dctn(block, norm="ortho").ravel()
        order = np.argsort([i**2 + j**2 for i in range(side) for j in range(side)], kind="stable")
        found = features[1, :, 5, 9].double().numpy()
        np.testing.assert_allclose(found, expected[order][: len(found)], atol=2e-6)


def test_basis_is_orthonormal_so_that_whole_blocks_keep_their_energy() -> None:
    whole = dct.basis(8, 64).reshape(64, 64)
    np.testing.assert_allclose(whole @ whole.T, np.eye(64), atol=1e-12)
    block = np.random.default_rng(0).normal(size=64)
    assert np.square(whole @ block).sum() == pytest.approx(np.square(block).sum())


def test_colour_planes_of_gray_images_are_empty_and_the_first_is_luma() -> None:
    images = gray_images()
    coloured = BackboneOptions(**{**vars(GRAY), "name": "dct_color"})
    for gray, color in zip(
        backbone.build(GRAY)(images), backbone.build(coloured)(images), strict=True
    ):
        count = gray.shape[1]
        assert color.shape[1] == 3 * count
        torch.testing.assert_close(color[:, :count], gray)
        assert color[:, count:].abs().max() < 1e-5
    tinted = images * torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1)
    assert backbone.build(coloured)(tinted)[0][:, 16:].abs().max() > 0.1


def test_networks_without_weights_take_none_and_no_other_network_does() -> None:
    with pytest.raises(UserError, match="dct_gray has no weights to load: give --weights none"):
        backbone.build(BackboneOptions(name="dct_gray", weights="random", layers=(0,)))
    with pytest.raises(UserError, match="resnet18 needs weights"):
        backbone.build(BackboneOptions(name="resnet18", weights="none", layers=(0,)))
    with pytest.raises(UserError, match=r"layers 0 to 1, not \[0, 2\]"):
        backbone.build(BackboneOptions(name="dct_gray", weights="none", layers=(0, 2)))
    with pytest.raises(UserError, match=r"unknown.*dct_gray"):
        backbone.build(BackboneOptions(name="dct_grey", weights="random", layers=(0,)))


def test_a_checkpoint_rebuilds_it_without_weights_and_with_the_same_hash() -> None:
    built = backbone.build(GRAY)
    again = backbone.empty(GRAY, built.label)
    assert again.label == "dct_gray" and again.state_sha256() == built.state_sha256()
