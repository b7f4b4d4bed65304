"""The metrics beside the plain ways, on the same arrays in one run: CPU seconds and differences.

    python benchmarks/metrics.py [--thresholds 1000] [--pixels 10000000]

PRO of 83 maps of 256 x 256 against a sweep of thresholds that labels every mask at each (as
RealNet's public code does) and one that labels once; pixel metrics of ten million pixels exactly,
from the histogram, and by torchmetrics; FID of 1,000 x 100 features of 2048 against torchmetrics'
final computation; clustered LPIPS of 1,000 x 100 embeddings against all pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import click
import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.image.fid import FrechetInceptionDistance, _compute_fid
from torchmetrics.image.kid import KernelInceptionDistance

from harness.metrics import clustered_lpips, fid, pixel_auroc, pro
from harness.torchmetrics import FID, KID, PixelMetric
from sia_gen.core.statistics.histogram import histogram_of
from sia_gen.core.statistics.pixels import EIGHT_NEIGHBOURS, rank_both

Array = np.ndarray[Any, Any]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Returns a result and the CPU seconds that it took, all threads together."""
    began = time.process_time()
    value = work()
    return value, time.process_time() - began


def line(name: str, seconds: float, reference: float, note: str = "") -> None:
    """Prints one line: what, CPU seconds, how many times the reference's, and a remark."""
    print(f"{name:46} {seconds:9.3f} s  {seconds / reference:8.1f} x  {note}", flush=True)


def maps_and_masks(count: int, side: int) -> tuple[Array, Array]:
    """Returns smooth maps and masks with rectangles in three of four images."""
    rng = np.random.default_rng(0)
    masks = np.zeros((count, side, side), dtype=np.uint8)
    for i in range(3 * count // 4):
        for _ in range(1 + i % 3):
            y, x = rng.integers(0, side - 60, 2)
            masks[i, y : y + rng.integers(8, 60), x : x + rng.integers(8, 60)] = 1
    noise = ndimage.gaussian_filter(rng.random(masks.shape, dtype=np.float32), (0, 3, 3))
    return noise + 0.05 * masks * rng.random((count, 1, 1), dtype=np.float32), masks


def sweep(maps: Array, masks: Array, thresholds: int, *, relabel: bool) -> float:
    """Returns PRO at 0.3 from a grid of thresholds."""
    grid = np.linspace(maps.min(), maps.max(), thresholds + 1)[:-1]
    labelled = [ndimage.label(mask, EIGHT_NEIGHBOURS) for mask in masks]
    rates, overlaps = [], []
    for level in grid:
        covered, false = [], 0
        for i, (map_HW, mask_HW) in enumerate(zip(maps, masks, strict=True)):
            above = map_HW > level
            labels, regions = ndimage.label(mask_HW, EIGHT_NEIGHBOURS) if relabel else labelled[i]
            if regions:
                covered += list(ndimage.mean(above, labels, np.arange(1, regions + 1)))
            false += int((above & (mask_HW == 0)).sum())
        rates.append(false / (masks == 0).sum())
        overlaps.append(float(np.mean(covered)))
    x, y = np.array(rates[::-1]), np.array(overlaps[::-1])
    inside = x <= 0.3
    x, y = np.append(x[inside], 0.3), np.append(y[inside], np.interp(0.3, x, y))
    return float(np.trapezoid(y, x)) / 0.3


class Given(nn.Module):
    """Features that are given, as torchmetrics' FID and KID ask for a network."""

    num_features = 2048

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the features (N, 2048) that came as images (N, 1, 1, 2048)."""
        return images.flatten(1).float()


def classes(x: Array, y: Array) -> Iterator[tuple[str, float, float, float]]:
    """Yields (what, our CPU seconds, torchmetrics', relative difference) of FID and KID."""
    few = y[np.arange(100) % len(y)]
    for name, first, second, pair, arguments in (
        ("FID, 1,000 x 100", x, few, (FID, FrechetInceptionDistance), {}),
        ("KID, 1,000 x 1,000, 100 subsets of 1,000", x, 0.1 - x, (KID, KernelInceptionDistance),
         {}),
        ("KID, 2,000 x 2,000, 100 subsets of 1,000", np.concatenate([x, -x]),
         np.concatenate([x * 1.1, 0.1 - x]), (KID, KernelInceptionDistance), {}),
    ):  # fmt: skip
        values, spent = [], []
        for kind in pair:
            metric = kind(feature=Given(), **arguments)
            for features, real in ((first, False), (second, True)):
                metric.update(torch.from_numpy(features.copy())[:, None, None], real=real)
            runs = []
            for _ in range(2):  # the first run imports what it needs
                torch.manual_seed(0)
                metric._computed = None  # torchmetrics would give the first answer again
                runs.append(timed(metric.compute))
            value = runs[-1][0]
            values.append(float(value[0] if isinstance(value, tuple) else value))
            spent.append(min(seconds for _, seconds in runs))
        yield name, spent[0], spent[1], values[1] / values[0] - 1.0


def by_classes(maps: Array, masks: Array) -> list[float]:
    """Returns pixel AUROC, AP, F1-max and PRO to 0.3 and 0.05 of the torchmetrics classes."""
    made = [PixelMetric(name) for name in ("pixel_auroc", "pixel_ap", "pixel_f1max")]
    made += [PixelMetric("pro", limit=limit) for limit in (0.3, 0.05)]
    for start in range(0, len(maps), 16):
        block = slice(start, start + 16)
        for metric in made:
            metric.update(torch.from_numpy(maps[block]), torch.from_numpy(masks[block]))
    return [float(metric.compute()) for metric in made]


@click.command()
@click.option("--thresholds", default=1000, show_default=True)
@click.option("--pixels", default=10_000_000, show_default=True)
def main(thresholds: int, pixels: int) -> None:
    """Runs all comparisons and prints their tables."""
    maps, masks = maps_and_masks(83, 256)
    print("PRO at 0.3 of 83 maps of 256 x 256")
    value, exact = timed(lambda: pro.compute(maps, masks))
    line("exact, one sort", exact, exact, f"{value:.6f}")
    for name, relabel in ((f"{thresholds} thresholds, labels once", False),
                          (f"{thresholds} thresholds, labels at each", True)):  # fmt: skip
        found, seconds = timed(lambda relabel=relabel: sweep(maps, masks, thresholds,
                                                              relabel=relabel))  # fmt: skip
        line(name, seconds, exact, f"off by {found - value:+.1e}")

    maps, masks = maps_and_masks(-(-pixels // 256**2), 256)
    print(f"\nPixel AUROC, AP, F1-max, PRO of {maps.size / 1e6:.1f} million pixels")
    histogram, seconds = timed(lambda: histogram_of(maps, masks))
    values, more = timed(
        lambda: (
            histogram.auroc(),
            histogram.average_precision(),
            histogram.f1_max(),
            histogram.pro(),
            histogram.pro(0.05),
        )
    )
    streamed = seconds + more
    (pixels_rank, regions), seconds = timed(lambda: rank_both(maps, masks))
    truth = (pixels_rank.area(), pixels_rank.average_precision(), pixels_rank.f1_max(),
             regions.area(0.3), regions.area(0.05))  # fmt: skip
    off = max(abs(a - b) for a, b in zip(values, truth, strict=True))
    line("histogram of 24 MiB, all five", streamed, streamed, f"off by {off:.1e} at most")
    line("exact ranking, all five", seconds, streamed)
    found, seconds = timed(lambda: by_classes(maps, masks))
    off = max(abs(a - b) for a, b in zip(found, truth, strict=True))
    line("PixelMetric, exact, five of them", seconds, streamed, f"off by {off:.1e} at most")
    flat = torch.from_numpy(maps.ravel()), torch.from_numpy(masks.ravel().astype(np.int64))
    found, seconds = timed(lambda: float(binary_auroc(*flat, thresholds=None)))
    line("torchmetrics, AUROC alone", seconds, streamed,
         f"off by {found - pixel_auroc.compute(maps, masks):+.1e}")  # fmt: skip

    rng = np.random.default_rng(1)
    spectrum = 1.0 / np.arange(1, 2049) ** 0.5
    x = rng.normal(size=(1000, 2048)) * spectrum
    y = rng.normal(0.1, 1.1, size=(100, 2048)) * spectrum
    print("\nFID of 1,000 x 100 features of 2048")
    ours, seconds = timed(lambda: fid.compute(x, y))
    line("from the features", seconds, seconds, f"{ours:.6f}")
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    moments = (a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    theirs, slow = timed(lambda: float(_compute_fid(*moments)))
    line("torchmetrics, final computation", slow, seconds, f"relative {theirs / ours - 1:+.1e}")

    print("\n`compute` of the torchmetrics classes against torchmetrics' own, features of 2048")
    for name, seconds, slow, off in classes(x, y):
        line(name, seconds, seconds)
        line("torchmetrics", slow, seconds, f"relative {off:+.1e}")

    centres = rng.normal(size=(100, 50_000)).astype(np.float32)
    print("\nClustered LPIPS of 1,000 x 100 embeddings of 50,000")
    images = centres[rng.integers(0, 100, 1000)] + rng.normal(size=(1000, 1)).astype(np.float32)

    def in_blocks() -> float:
        clusters = clustered_lpips.Clusters(centres)
        for start in range(0, 1000, 16):
            clusters.update(images[start : start + 16])
        return clusters.result().value

    def all_pairs() -> float:
        nearest = clustered_lpips.squared_distances(images, centres).argmin(axis=1)
        apart = clustered_lpips.squared_distances(images, images)
        means = []
        for cluster in np.unique(nearest):
            own = np.flatnonzero(nearest == cluster)
            if len(own) > 1:
                means.append(apart[np.ix_(own, own)].sum() / (len(own) * (len(own) - 1)))
        return float(np.mean(means))

    value, seconds = timed(in_blocks)
    line("streamed in blocks of 16", seconds, seconds, f"{value:.4f}")
    found, slow = timed(all_pairs)
    line("all pairs held", slow, seconds, f"relative {found / value - 1:+.1e}")


if __name__ == "__main__":
    main()
