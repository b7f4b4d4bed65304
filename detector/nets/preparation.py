"""What is fixed before a RealNet's first step: kept channels, their scales, a memory's members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from detector.nets import afs
from detector.nets.bank import Bank
from detector.nets.whole import WholeImage, fitted
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


def joined(features: list[Tensor], neighbourhood: int = 1) -> Tensor:
    """Returns features of several resolutions as one, at the finest: (B, C, H, W), float32.

    Each is the mean over a square of `neighbourhood` places, of those inside the image.
    """
    size = max(tuple(x.shape[-2:]) for x in features)
    same = [
        x.float()
        if tuple(x.shape[-2:]) == size
        else functional.interpolate(x.float(), size=size, mode="bilinear", align_corners=True)
        for x in features
    ]
    x = torch.cat(same, dim=1)
    if neighbourhood == 1:
        return x
    return functional.avg_pool2d(
        x, neighbourhood, stride=1, padding=neighbourhood // 2, count_include_pad=False
    )


class Draw:
    """Features drawn at random places of normal images, alike many of each, with their images.

    Features are means over a neighbourhood. Where a grid's side is given, whole images are kept
    too: the deepest layer, pooled to it.
    """

    def __init__(self, images: int, seed: int, side: int = 0, neighbourhood: int = 1) -> None:
        self._side, self._whole, self._neighbourhood = side, list[Tensor](), neighbourhood
        self._each = max(1, POOL // images)
        self._generator = torch.Generator().manual_seed(derive_seed(seed, "bank"))
        self._rows: list[Tensor] = []

    def add(self, features: list[Tensor]) -> None:
        """Draws from the next images' features."""
        for x in joined(features, self._neighbourhood):
            places = torch.randperm(x[0].numel(), generator=self._generator)[: self._each]
            self._rows.append(x.flatten(1)[:, places.to(x.device)].T.cpu())
        if self._side:
            pooled = functional.adaptive_avg_pool2d(features[-1].float(), self._side)
            self._whole.append(pooled.cpu())

    def whole(self, scales_C: Tensor) -> WholeImage:
        """Returns the components of the whole images."""
        pooled = torch.cat(self._whole) * scales_C.cpu()[:, None, None]
        return fitted(pooled.flatten(1), pooled.shape[1], self._side)

    def fill(self, bank: Bank, scales_C: Tensor) -> dict[str, int]:
        """Chooses a memory's members among what was drawn; returns how many of how many."""
        pool = torch.cat(self._rows) * scales_C.cpu()
        own = torch.cat([torch.full((len(rows),), i) for i, rows in enumerate(self._rows)])
        return {"pool": len(pool), "members": fill(bank, pool, own)}


def fill(bank: Bank, pool_NC: Tensor, own_N: Tensor) -> int:
    """Chooses members of each group by itself, from features of images `own_N`; returns how many.

    Where there are fewer features than members, they stand there several times.
    """
    size = len(bank.members)
    parts = zip(pool_NC.split(bank.groups, 1), bank.members.split(bank.groups, 1), strict=True)
    for group, (columns, members) in enumerate(parts):
        rows = columns.contiguous()
        chosen = torch.from_numpy(greedy_coreset(rows.numpy(), size))
        repeated = chosen[torch.arange(size) % len(chosen)]
        members.copy_(rows[repeated])
        bank.images[:, group] = own_N[repeated]
    return min(size, len(pool_NC))


def survey(
    reductions: Sequence[afs.Reduction],
    layers: Layers,
    normal: Iterable[Tensor],
    *,
    standardise: bool,
    draw: Draw | None,
) -> None:
    """Looks once at all normal images: draws features as they are kept, and then, to standardise,
    divides each kept channel by its standard deviation."""
    sums = [torch.zeros(3, layer.keep, dtype=torch.float64) for layer in reductions]
    for images in normal:
        kept = [layer(x) for layer, x in zip(reductions, layers(images), strict=True)]
        if draw is not None:
            draw.add(kept)
        for total, x in zip(sums, (x.double().cpu() for x in kept), strict=True):
            count = torch.full((x.shape[1],), x.numel() / x.shape[1])
            total += torch.stack([count, x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])
    if standardise:
        for (count, total, squares), layer in zip(sums, reductions, strict=True):
            variance = squares / count - (total / count).square()
            layer.scale.copy_(1 / variance.clamp_min(1e-6).sqrt())
