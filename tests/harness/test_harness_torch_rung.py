"""The torchmetrics classes: the NumPy ladder's values, torchmetrics' own, and on two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from harness import metrics
from harness.torchmetrics import FID, KID, FeatureMetric, ImageMetric, PixelMetric
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.inputs import UndefinedMetric

PIXELS = {"pixel_auroc": {}, "pixel_ap": {}, "pixel_f1max": {}, "pro": {"limit": 0.05}}
SETS = {
    "density": ("synthetic", "anomalous"),
    "coverage": ("synthetic", "anomalous"),
    "clustered_lpips": ("synthetic", "anomalous"),
    "memorisation": ("synthetic", "train", "held_out"),
}


class Pooled(nn.Module):
    """A small network for images, as torchmetrics' FID asks for one."""

    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


def images(seed: int, count: int = 60) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


def case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 16, 16), dtype=np.uint8)
    masks[2:, 3:9, 4:8], masks[4:, 12:14, 1:14] = 1, 1
    maps = np.round(rng.random(masks.shape) + 0.4 * masks, 2).astype(np.float32)
    return torch.from_numpy(maps), torch.from_numpy(masks)


def collection() -> MetricCollection:
    exact = {name: PixelMetric(name, **given) for name, given in PIXELS.items()}
    counted = {f"{n}_h": PixelMetric(n, exact=False, **given) for n, given in PIXELS.items()}
    return MetricCollection({**exact, **counted})


def values(made: Any) -> dict[str, float]:
    return {name: float(value) for name, value in made.compute().items()}


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_pixels_in_a_collection_are_the_ladder_and_torchmetrics() -> None:
    parts = [case(seed) for seed in range(3)]
    one = collection()
    theirs = BinaryAUROC(), BinaryAveragePrecision()
    for maps, masks in parts:
        one.update(maps, masks)
        for metric in theirs:
            metric.update(maps.flatten(), masks.flatten().long())
    found = values(one)
    maps, masks = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    for name, given in PIXELS.items():
        expected = metrics.load(name).compute(maps, masks, **given)
        assert found[name] == pytest.approx(expected, abs=1e-9)
        assert found[f"{name}_h"] == pytest.approx(expected, abs=1e-4)
    assert found["pixel_auroc"] == pytest.approx(float(theirs[0].compute()), abs=1e-5)
    assert found["pixel_ap"] == pytest.approx(float(theirs[1].compute()), abs=1e-5)
    one.reset()
    with pytest.raises(UndefinedMetric):
        one.compute()


def test_images_merge_and_are_the_ladder() -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.random(40).astype(np.float32), rng.random(40) < 0.4
    names = [metric.name for metric in metrics.of_kind("image")]
    halves = []
    for half in (slice(0, 15), slice(15, None)):
        made = {name: ImageMetric(name) for name in names}
        for metric in made.values():
            metric.update(torch.from_numpy(scores[half]), torch.from_numpy(labels[half]))
        halves.append(made)
    for name in names:
        halves[0][name].merge_state(halves[1][name])
        expected = metrics.load(name).compute(scores, labels)
        assert float(halves[0][name].compute()) == pytest.approx(expected, abs=1e-12)
        assert halves[0][name].higher_is_better is True


@pytest.mark.parametrize("name", sorted(SETS))
def test_features_are_the_ladder(name: str) -> None:
    network, metric = Pooled(), FeatureMetric(name, feature=Pooled())
    given = [images(number, 20) for number in range(len(SETS[name]))]
    for part, of in zip(given, SETS[name], strict=True):
        metric.update(part[:7], of=of)
        metric.update(part[7:], of=of)
    expected = metrics.load(name).compute(*(network(part).numpy() for part in given))
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(UserError, match="expected one of synthetic"):
        metric.update(given[0], of="real")


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`:UserWarning")
def test_fid_and_kid_are_torchmetrics_and_the_ladders() -> None:
    ours: list[Any] = [FID(feature=Pooled()), KID(feature=Pooled(), subsets=7, subset_size=40)]
    theirs = [FrechetInceptionDistance(feature=Pooled()),
              KernelInceptionDistance(feature=Pooled(), subsets=7, subset_size=40)]  # fmt: skip
    fake, real = images(1), images(2, 50) // 2
    for metric in (*ours, *theirs):
        metric.update(fake, real=False)
        metric.update(real, real=True)
    assert float(ours[0].compute()) == pytest.approx(float(theirs[0].compute()), rel=1e-4)
    ladder = metrics.load("fid").compute(Pooled()(fake).numpy(), Pooled()(real).numpy())
    assert float(ours[0].compute()) == pytest.approx(ladder, rel=1e-6)
    torch.manual_seed(0)
    mean, deviation = ours[1].compute()
    torch.manual_seed(0)
    expected = theirs[1].compute()
    assert float(mean) == pytest.approx(float(expected[0]), rel=1e-4)
    assert float(deviation) == pytest.approx(float(expected[1]), rel=1e-4)
    whole = KID(feature=Pooled(), subsets=1, subset_size=50)
    whole.update(fake[:50], real=False)
    whole.update(real, real=True)
    ladder = metrics.load("kid").compute(Pooled()(fake[:50]).numpy(), Pooled()(real).numpy())
    assert float(whole.compute()[0]) == pytest.approx(ladder, rel=1e-6)


def measured(rank: int, ranks: int) -> dict[str, float]:
    """Returns the values after this process's share of the images, gathered over all."""
    made = collection()
    for seed in range(rank, 4, ranks):
        made.update(*case(seed))
    rng = np.random.default_rng(3)
    scores, labels = torch.from_numpy(rng.random(40)), torch.from_numpy(rng.random(40) < 0.4)
    names = [metric.name for metric in metrics.of_kind("image")]
    of_images = MetricCollection({name: ImageMetric(name) for name in names})
    of_images.update(scores[rank::ranks], labels[rank::ranks])
    found = values(made) | values(of_images)
    for name, sets in SETS.items():
        metric = FeatureMetric(name, feature=Pooled())
        for number, of in enumerate(sets, start=1):
            metric.update(images(number)[rank::ranks], of=of)
        found[name] = float(metric.compute())
    # Subsets of all images: the order in which processes gather them draws no others.
    fid, kid = FID(feature=Pooled()), KID(feature=Pooled(), subsets=2, subset_size=60)
    for part, is_real in ((images(1), False), (images(2), True)):
        fid.update(part[rank::ranks], real=is_real)
        kid.update(part[rank::ranks], real=is_real)
    return found | {"fid": float(fid.compute()), "kid": float(kid.compute()[0])}


def tell(out: Path) -> None:
    """Measures as one of the processes; the first writes what it found."""
    from accelerate import PartialState

    state = PartialState(cpu=True)
    found = measured(state.process_index, state.num_processes)
    if state.is_main_process:
        out.write_text(json.dumps([state.num_processes, found]))
    state.destroy_process_group()


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`:UserWarning")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    for rank in children.ranks(tmp_path, tell, tmp_path / "found.json"):
        assert rank.wait() == 0, rank.said()
    processes, found = json.loads((tmp_path / "found.json").read_text())
    expected = measured(0, 1)
    assert processes == 2 and found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6 * max(1.0, abs(value))), name


def test_the_registry_loads_no_torch() -> None:
    code = "import sys, harness.metrics as m; m.columns(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
