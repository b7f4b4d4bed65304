"""What is fixed before a RealNet's first step: kept channels, their scales, a memory's members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from detector.nets import afs
from detector.nets.bank import Bank
from sia_gen.core.coreset import greedy_coreset
from sia_gen.core.seeds import derive_seed

POOL = 60_000  # normal features from which a memory's members are chosen

Layers = Callable[[Tensor], list[Tensor]]


def select(
    reductions: Sequence[afs.Reduction],
    layers: Layers,
    pairs: Iterable[tuple[Tensor, ...]],
    mode: str,
    seed: int,
) -> list[list[float]]:
    """Fixes which channels each layer keeps; returns AFS losses [layer][channel], [] without AFS.

    `layers` gives all features of images; pairs are (anomalous, normal, mask (B, 1, H, W)).
    """
    if mode != "afs":
        generator = torch.Generator().manual_seed(derive_seed(seed, "reduction"))
        for layer in reductions:
            size = (layer.channels, layer.keep, generator)
            if mode == "rdr":
                layer.index.copy_(afs.random_subset(*size))
            else:
                layer.projection.copy_(afs.random_projection(*size))
        return []
    totals: list[Tensor] = [torch.zeros((), dtype=torch.float64) for _ in reductions]
    for anomalous, plain, mask in pairs:
        changed, unchanged = layers(anomalous), layers(plain)
        for i, (a, n) in enumerate(zip(changed, unchanged, strict=True)):
            totals[i] = totals[i] + afs.channel_losses(a, n, mask).cpu()
    for layer, total in zip(reductions, totals, strict=True):
        layer.index.copy_(afs.smallest(total, layer.keep))
    return [total.tolist() for total in totals]


def standardise(
    reductions: Sequence[afs.Reduction], layers: Layers, normal: Iterable[Tensor]
) -> None:
    """Divides each kept channel by its standard deviation over normal images."""
    sums = [torch.zeros(3, layer.keep, dtype=torch.float64) for layer in reductions]
    for images in normal:
        for total, layer, x in zip(sums, reductions, layers(images), strict=True):
            kept = layer(x).double().cpu()
            count = torch.full((kept.shape[1],), kept.numel() / kept.shape[1])
            total += torch.stack([count, kept.sum((0, 2, 3)), kept.square().sum((0, 2, 3))])
    for (count, total, squares), layer in zip(sums, reductions, strict=True):
        variance = squares / count - (total / count).square()
        layer.scale.copy_(1 / variance.clamp_min(1e-6).sqrt())


def joined(features: list[Tensor]) -> Tensor:
    """Returns features of several resolutions as one, at the finest: (B, C, H, W), float32."""
    size = max(tuple(x.shape[-2:]) for x in features)
    same = [
        x.float()
        if tuple(x.shape[-2:]) == size
        else functional.interpolate(x.float(), size=size, mode="bilinear", align_corners=True)
        for x in features
    ]
    return torch.cat(same, dim=1)


def fill(
    bank: Bank, features: Layers, normal: Iterable[Tensor], images: int, seed: int
) -> dict[str, int]:
    """Chooses a memory's members among features drawn from all normal images; returns counts."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "bank"))
    each = max(1, POOL // images)
    rows, own, number = [], [], 0
    for batch in normal:
        for x in joined(features(batch)):
            places = torch.randperm(x[0].numel(), generator=generator)[:each].to(x.device)
            rows.append(x.flatten(1)[:, places].T)
            own.append(torch.full((len(places),), number))
            number += 1
    pool, image = torch.cat(rows).cpu(), torch.cat(own)
    chosen = torch.from_numpy(greedy_coreset(pool.numpy(), len(bank.members)))
    # Fewer features than members: they stand there several times.
    repeated = chosen[torch.arange(len(bank.members)) % len(chosen)]
    bank.members.copy_(pool[repeated])
    bank.images.copy_(image[repeated])
    return {"pool": len(pool), "members": len(chosen)}
