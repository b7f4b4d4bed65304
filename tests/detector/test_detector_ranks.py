"""Two processes that share a batch train like one, and stop together where one of them diverges."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import children
import pytest
import torch

from detector import checkpoint
from detector.data.task import single
from detector.nets.batchnorm import BatchNorm2d
from detector.options import TrainOptions
from detector.training.train import accelerator_for, train
from sia_gen.core.data.dataset import Category
from sia_gen.core.store.shards import find_shards


def train_twice(*arguments: str) -> None:
    """Trains as one of two ranks, and again with a loss that rank 1 spoils after step 10."""
    from detector.models.realnet import RealNet

    with contextlib.suppress(SystemExit):
        children.detector(*arguments)
    original, calls = RealNet.losses, 0

    def poisoned(self: RealNet, stage: str, inputs: Any) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        losses = original(self, stage, inputs)
        if os.environ["RANK"] == "1" and calls > 12:
            losses["segmentation"] = losses["segmentation"] * float("nan")
        return losses

    RealNet.losses = poisoned  # type: ignore[method-assign]
    children.detector(*arguments[:-1], arguments[-1] + "-poisoned")


def test_two_processes_train_like_one_and_stop_together(
    tmp_path: Path,
    tiny: Callable[..., TrainOptions],
    recipe: Path,
    line: Path,
    stripes: Category,
    generated: Path,
) -> None:
    options = tiny(batch_size=6, checkpoint_seconds=0.001)
    options = TrainOptions(**{**vars(options), "recipe": str(recipe)})
    tars = find_shards(generated)
    whole = train(options, single(stripes, tars), tmp_path / "one", accelerator_for("cpu", "fp32"))
    command = ["train", "--data", str(line), "--category", "stripes", "--shards", str(generated)]
    command += ["--recipe", str(recipe), "--device", "cpu", "--batch", "6"]
    command += ["--set", "checkpoint_seconds=0.001", "--out", str(tmp_path / "two")]
    ranks = children.ranks(tmp_path, train_twice, *command)
    codes = [rank.wait() for rank in ranks]
    said = [rank.said() for rank in ranks]
    shared = checkpoint.read_facts(tmp_path / "two" / "line" / "stripes")
    assert shared["afs_losses"] == whole["afs_losses"]
    for (_, *one), (_, *two) in zip(whole["curve"], shared["curve"], strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    a = checkpoint.load(tmp_path / "one" / "line" / "stripes", torch.device("cpu")).model
    b = checkpoint.load(tmp_path / "two" / "line" / "stripes", torch.device("cpu")).model
    for name, value in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[name], value, rtol=1e-2, atol=1e-3)
    # The NaN of rank 1 after step 10 stops both at the next look; the state of step 10 is kept.
    assert codes == [6, 6], said
    assert all("training diverged at step 20" in text for text in said)
    kept = checkpoint.load_state(tmp_path / "two-poisoned" / "line" / "stripes")
    assert kept is not None and kept[1]["step"] == 10
    assert not checkpoint.nonfinite(kept[0]["model"])


def test_batchnorm_alone_is_torchs() -> None:
    ours, torchs = BatchNorm2d(4, momentum=0.3), torch.nn.BatchNorm2d(4, momentum=0.3)
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.state_dict(), torchs.state_dict())
