"""The witnesses beside the discriminator: a memory of normal features, and whole images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector import checkpoint, scorefile
from detector import run_folder as runfolder
from detector.data.task import single
from detector.inference.export import export
from detector.inference.score import score
from detector.models import realnet
from detector.models.realnet import RealNet
from detector.nets.bank import Bank
from detector.nets.whole import fitted
from detector.options import TrainOptions
from detector.training.train import accelerator_for, train
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.store.shards import find_shards

Make = Callable[..., TrainOptions]
MEMORY: dict[str, Any] = {"reconstruction": "bank", "bank": 200, "bank_weight": 1.0,
                          "sees_bank": True, "discriminator": "light",
                          "whole": 4, "whole_weight": 1.0, "image_score": "top1_mean"}  # fmt: skip


def test_nearest_members_are_found_and_an_images_own_are_left_out() -> None:
    bank = Bank(50, [4])
    generator = torch.Generator().manual_seed(0)
    bank.members.copy_(torch.randn(50, 4, generator=generator))
    bank.images[:, 0] = torch.arange(50) % 2
    x = torch.randn(2, 4, 3, 5, generator=generator)
    for own in (None, torch.tensor([0, 1])):
        restored, apart = bank(x, own)
        for image in range(2):
            taken = bank.members if own is None else bank.members[bank.images[:, 0] != image]
            rows = x[image].flatten(1).T
            gaps = torch.cdist(rows, taken)
            nearest = taken[gaps.argmin(1)]
            assert torch.allclose(restored[image].flatten(1).T, nearest)
            assert torch.allclose(apart[image].flatten(), gaps.amin(1) / 2, atol=1e-5)
    _, apart = bank(bank.members[:3].T[None, :, :, None])
    assert torch.allclose(apart, torch.zeros(()), atol=1e-4)


def test_what_normal_images_share_leaves_nothing_and_a_change_is_left_where_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(3, 6 * 4 * 4, generator=generator)
    normal = 5 + torch.randn(40, 3, generator=generator) @ patterns
    module = fitted(normal, 6, 4)
    assert len(module.components) <= 3
    images = (5 + torch.randn(2, 3, generator=generator) @ patterns).reshape(2, 6, 4, 4)
    images = images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # pooled back to 4 x 4
    images[1, :, 2:4, 6:8] += 20.0
    left = module(images)
    assert left.shape == (2, 1, 4, 4)
    assert left[0].max() < 0.2 * patterns.abs().mean() * 3
    assert int(left[1].argmax()) == 1 * 4 + 3 and left[1].max() > 10 * left[0].max()


def test_whole_images_need_held_out_ones(tiny: Make) -> None:
    options = tiny(**MEMORY)
    model = realnet.build(realnet.Options(**options.options), 0)
    with pytest.raises(UserError, match="held-out normal images: give --holdout"):
        model.stages(options, 20)


def test_a_memory_needs_a_use_and_a_use_needs_a_memory() -> None:
    for wrong in ({"bank": 10}, {"bank_weight": 1.0}, {"reconstruction": "bank"}):
        with pytest.raises(UserError, match="give its number of members, and what it is for"):
            realnet.Options(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="give both above 0, or none"):
        realnet.Options(bank=10, bank_weight=1.0, whole=8)
    with pytest.raises(UserError, match="whole adds to a sum of witnesses"):
        realnet.Options(whole=8, whole_weight=1.0)


def test_each_layers_memory_answers_for_its_own_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = Bank(20, [3, 5])
    bank.members.copy_(torch.randn(20, 8, generator=generator))
    bank.images[:, 1] = 7
    x = torch.randn(1, 8, 4, 4, generator=generator)
    restored, apart = bank(x)
    for group, part in enumerate((slice(0, 3), slice(3, 8))):
        alone = Bank(20, [part.stop - part.start])
        alone.members.copy_(bank.members[:, part])
        nearest, distance = alone(x[:, part])
        assert torch.equal(restored[:, part], nearest)
        assert torch.equal(apart[:, group : group + 1], distance)
    before = {"members": bank.members, "images": bank.images[:, 1]}  # of one memory, no groups
    one = Bank(20, [8])
    one.load_state_dict(before)
    assert torch.equal(one.images, bank.images[:, 1:])
    with pytest.raises(UserError, match="bank_neighbourhood 2: expected an odd number"):
        realnet.Options(bank=10, bank_weight=1.0, bank_neighbourhood=2)


@pytest.mark.parametrize("reconstruction", ["bank", "unet"])
def test_training_with_a_memory_learns_and_is_exported(
    reconstruction: str, tmp_path: Path, tiny: Make, stripes: Category, generated: Path
) -> None:
    by_layer = reconstruction == "bank"
    settings: dict[str, Any] = {"reconstruction": reconstruction, "bank_by_layer": by_layer}
    if by_layer:
        settings |= {"bank_neighbourhood": 3, "layers": "1,2", "channels": "12,12"}
    options = tiny(**{**MEMORY, **settings}, holdout=0.2, steps=30)
    run = tmp_path / "run"
    facts = train(
        options, single(stripes, find_shards(generated)), run, accelerator_for("cpu", "fp32")
    )
    assert facts["bank"]["members"] == 200
    assert facts["parts"]["joint"][-1] == "segmentation"
    folder = runfolder.folder_of(run, stripes)
    assert score(run, stripes, "cpu")
    scores = scorefile.read(folder / "scores")
    assert scores.protocol["image_score"] == "top1_mean" and scores.protocol["bank"] == 200
    own = np.array([item["score_own"] for item in scores.items])
    assert own.tolist() == [item["score_top1_mean"] for item in scores.items]
    anomalous = np.array([item["anomalous"] for item in scores.items])
    assert (own[anomalous][:, None] > own[~anomalous]).mean() > 0.9
    model = checkpoint.load(folder, torch.device("cpu")).model
    assert isinstance(model, RealNet) and model.whole is not None
    assert len(model.whole.components) == facts["whole"] and model.levels.shape == (
        4 if by_layer else 3,
        2,
    )
    assert bool((model.levels[:, 1] > 0).all())
    assert scores.maps_NHW.min() > 0 and scores.maps_NHW.max() < 1
    shown = model.steps(torch.rand(1, 3, 32, 32))
    assert {"distance to memory", "whole image"} < set(shown)
    assert shown["score"].shape == (1, 32, 32)
    if reconstruction == "bank":
        assert export(folder, tmp_path / "model.pt2", "torch")["largest_deviation"] < 1e-3


def test_an_images_scores_are_its_maximum_its_window_means_and_its_highest_hundredth() -> None:
    rng = np.random.default_rng(0)
    map_HW = rng.random((40, 50), dtype=np.float32)
    found = scorefile.image_scores(map_HW)
    assert list(found) == [f"score_{name}" for name in scorefile.IMAGE_SCORES]
    assert found["score_max"] == map_HW.max()
    assert found["score_top1_mean"] == pytest.approx(np.sort(map_HW.ravel())[-20:].mean())
    assert scorefile.image_scores(map_HW[:5, :5])["score_top1_mean"] == map_HW[:5, :5].max()
