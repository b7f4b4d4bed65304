"""Which parts `realnet-lite` should have: closed forms and small trainings on kept features.

    python benchmarks/lite_data.py --out dev --dtd DTD --tiles magnetic-tile/magnetic_tile
    python benchmarks/lite_screen.py --data dev --textures DTD [--category tiles] [--pairs 640]
        [--steps 300] [--size 2000]

For each development category the backbone sees every image once. Then: the memory alone, the whole
image alone, and discriminators (the light one, the paper's behind RRS) trained on the same pairs,
each alone and in sums, each kind of evidence in its own deviations over every tenth normal image,
which is kept out. A line gives image AUROC (maximum; mean of the top 1 %), pixel AUROC, AP, PRO.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from detector.data.normals import NormalImages
from detector.data.source import sources
from detector.data.task import single
from detector.models import realnet
from detector.models.realnet import RealNet
from detector.nets.preparation import fill
from detector.nets.whole import fitted
from detector.options import TrainOptions, model_options, resolve
from detector.training.constants import to_tensor
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.pixels.images import read_image
from sia_gen.core.seeds import generator

CPU = torch.device("cpu")
BATCH = 16
SUMS = {"memory": (0, 1, 0), "whole": (0, 0, 1), "discriminator": (1, 0, 0), "1 + 1": (1, 1, 0),
        "1 + 1 + 1": (1, 1, 1), "1 + 1 + 2": (1, 1, 2), "memory + whole": (0, 1, 1)}  # fmt: skip


def model_of(options: TrainOptions, **changes: object) -> RealNet:
    """Returns an untrained RealNet of the recipe with other options."""
    return realnet.build(model_options(realnet.Options, {**options.options, **changes}), 0)


@torch.no_grad()
def features(model: RealNet, images: list[np.ndarray]) -> Tensor:
    """Returns features of images at the finest kept layer, bfloat16 (N, C, H, W)."""
    found = []
    for start in range(0, len(images), BATCH):
        x = to_tensor(np.stack(images[start : start + BATCH]), CPU)
        with torch.autocast("cpu", torch.bfloat16):
            found.append(model.joined(model.features(x)).bfloat16())
    return torch.cat(found)


@torch.no_grad()
def remembered(model: RealNet, x_NCHW: Tensor, own_N: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns residuals (bfloat16) and distances to the memory."""
    pairs = []
    for start in range(0, len(x_NCHW), BATCH):
        part = x_NCHW[start : start + BATCH].float()
        own = None if own_N is None else own_N[start : start + BATCH]
        nearest, distance = model.bank(part, own)  # type: ignore[misc]
        pairs.append(((part - nearest).square().bfloat16(), distance))
    residuals, distances = zip(*pairs, strict=True)
    return torch.cat(residuals), torch.cat(distances)


def train(
    model: RealNet, anomalous: tuple[Tensor, Tensor, Tensor], normal: tuple[Tensor, Tensor],
    steps: int, rate: float,
) -> None:  # fmt: skip
    """Trains a discriminator on residuals and distances of pairs and of normal images."""
    optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=rate)
    rng = torch.Generator().manual_seed(1)
    side = model.discriminator.train() and 128
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))
        a = torch.randint(len(anomalous[0]), (8,), generator=rng)
        n = torch.randint(len(normal[0]), (8,), generator=rng)
        residual = torch.cat([anomalous[0][a], normal[0][n]]).float()
        distance = torch.cat([anomalous[1][a], normal[1][n]])
        target = torch.zeros(16, side, side, dtype=torch.long)
        target[:8] = anomalous[2][a][:, ::2, ::2].long()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.decide(residual, distance, (side, side))
        loss = functional.cross_entropy(logits.float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


@torch.no_grad()
def logits(model: RealNet, residual: Tensor, distance: Tensor) -> Tensor:
    """Returns the logit of an anomaly at the features' own resolution, (N, 1, h, w)."""
    size = (residual.shape[-2], residual.shape[-1])
    found = []
    for r, d in zip(residual.split(BATCH), distance.split(BATCH), strict=True):
        two = model.decide(r.float(), d, size).float()
        found.append(two[:, 1:] - two[:, :1])
    return torch.cat(found)


def standardised(x_NGHW: Tensor, held_NGHW: Tensor) -> Tensor:
    """Returns evidence in deviations over held-out images, the mean of several, (N, 1, H, W)."""
    mean = held_NGHW.mean((0, 2, 3), keepdim=True)
    deviation = held_NGHW.std((0, 2, 3), keepdim=True)
    return ((x_NGHW - mean) / deviation).mean(1, keepdim=True)


def screen(category: Category, options: TrainOptions, pairs: int, steps: int, size: int) -> None:
    """Prints the lines of one development category."""
    from lite import figures

    light = model_of(options, bank=size)
    light.eval()
    normals = NormalImages([(category.train, category.foreground)], options.resolution)
    images = [normals.image(i) for i in range(len(normals))]
    first = features(light, images)
    light.reductions[0].scale.copy_(1 / first[:, :40].float().std((0, 2, 3)))
    light.reductions[1].scale.copy_(1 / first[:, 40:].float().std((0, 2, 3)))
    scales = torch.cat([one.scale for one in light.reductions])[:, None, None]  # type: ignore[misc]
    x = first * scales.bfloat16()
    out = torch.arange(len(x)) % 10 == 0
    numbers = torch.arange(len(x))
    rows, own = [], []
    rng = torch.Generator().manual_seed(0)
    for i in numbers[~out].tolist():
        places = torch.randperm(x[0, 0].numel(), generator=rng)[:300]
        rows.append(x[i].flatten(1)[:, places].T.float())
        own.append(torch.full((300,), i))
    pool = torch.cat(rows)
    fill(light.bank, pool, torch.cat(own))  # type: ignore[arg-type]
    paper = model_of(options, bank=size, discriminator="paper", rrs="max&avg")
    paper.bank = light.bank
    method = sources(options, single(category, []), normals)[0]
    made, masks, index = [], [], []
    for k, i in zip(range(pairs), itertools.cycle(numbers[~out].tolist())):
        pair = method.pair(normals.image(i), normals.foreground(i), generator("screen", k))
        made.append(pair.image)
        masks.append(torch.from_numpy(pair.mask))
        index.append(i)
    seen = remembered(light, features(light, made), torch.tensor(index))
    normal = remembered(light, x, numbers)
    tested = features(light, [read_image(e.path, options.resolution) for e in category.test])
    test = remembered(light, tested, None)
    pooled = functional.adaptive_avg_pool2d(x[:, 40:].float(), 8)
    whole = fitted(pooled[~out].flatten(1), pooled.shape[1], 8)
    wholes = [whole(part[:, 40:].float()) for part in (x[out], tested)]
    for name, model, rate in (("light", light, 2e-3), ("paper", paper, 1e-3)):
        kept = (normal[0][~out], normal[1][~out])
        train(model, (*seen, torch.stack(masks)), kept, steps, rate)
        held = [logits(model, normal[0][out], normal[1][out]), normal[1][out], wholes[0]]
        shown = [logits(model, *test), test[1], wholes[1]]
        large = [
            functional.interpolate(standardised(s, h), (256, 256), mode="bilinear")[:, 0]
            for s, h in zip(shown, held, strict=True)
        ]
        for label, weights in SUMS.items():
            total = sum(w * one for w, one in zip(weights, large, strict=True) if w)
            found = figures(total.numpy(), category)  # type: ignore[union-attr]
            del found["avgpool16_max"]
            values = " ".join(f"{value:5.1f}" for value in found.values())
            print(f"{category.name:6} {name} {label:15} {values}", flush=True)


@click.command()
@click.option("--data", required=True)
@click.option("--category", default="all", show_default=True)
@click.option("--textures", required=True, type=click.Path(path_type=Path), help="DTD's images.")
@click.option("--pairs", default=640, show_default=True)
@click.option("--steps", default=300, show_default=True)
@click.option("--size", default=4000, show_default=True, help="Members of the memory.")
def main(data: str, category: str, textures: Path, pairs: int, steps: int, size: int) -> None:
    """Screens the development categories one after the other."""
    options = resolve("realnet-lite", {"dtd.textures": str(textures)}, realnet.Options)
    for one in open_dataset(data).select(category):
        screen(one, options, pairs, steps, size)


if __name__ == "__main__":
    main()
