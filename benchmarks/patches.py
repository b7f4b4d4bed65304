"""How near the patches of a run's pairs are to real defects, and how much they differ: KID, LPIPS.

    sia-gen synthesize --method sdas-inplace --model MODEL --data DATA --resolution 64 --out runs/in-place
    python benchmarks/patches.py --data DATA "in place=runs/in-place" "dtd=runs/dtd"

A patch is the square around a mask, half as wide again as the mask and inside the image, enlarged
to 64 pixels; defects' patches are cut from the test images at the pairs' own resolution. Features are
tf_efficientnet_lite0's (extra `weights`): pooled for KID (to the defects' patches, and to patches of
normal test images under the pairs' own masks), its layers for clustered LPIPS. A mean over categories.
"""  # noqa: E501

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from harness.metrics.clustered_lpips import Clusters
from harness.quality.features import FeatureNetwork, open_network
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.pixels.images import Array8, Mask, read_image
from sia_gen.core.statistics.kid import unbiased as kid
from sia_gen.core.store.shards import MASK, ShardReader, find_shards

SIDE, MARGIN, LEAST = 64, 1.5, 16


def patch(image_HWC: Array8, mask_HW: Mask) -> Array8:
    """Returns the square around a mask, enlarged, uint8 (64, 64, 3)."""
    rows, columns = np.nonzero(mask_HW.any(1))[0], np.nonzero(mask_HW.any(0))[0]
    wide = max(np.ptp(rows) + 1, np.ptp(columns) + 1) * MARGIN
    side = int(min(max(wide, LEAST), *mask_HW.shape))
    top, left = (
        int(np.clip((line[0] + line[-1] + 1 - side) // 2, 0, whole - side))
        for line, whole in zip((rows, columns), mask_HW.shape, strict=True)
    )
    part = Image.fromarray(image_HWC[top : top + side, left : left + side])
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def figures(
    network: FeatureNetwork, reader: ShardReader, category: Category
) -> tuple[float, float, float]:
    """Returns KID to defects, KID to normal patches, and clustered LPIPS of a category's pairs."""
    masks = [reader.extra(i, MASK)[..., 0] > 127 for i in range(len(reader))]
    made = [patch(reader.image(i), mask) for i, mask in enumerate(masks)]
    side = len(masks[0])
    drawn = [(e, e.read_mask(side)) for e in category.test if e.anomalous]
    real = [patch(read_image(e.path, side), m) for e, m in drawn if m is not None and m.any()]
    good = [read_image(e.path, side) for e in category.test if not e.anomalous]
    normal = [patch(good[i % len(good)], mask) for i, mask in enumerate(masks)]
    ours, defects = network.pooled(made), network.pooled(real)
    clusters = Clusters(network.embedded(real))
    clusters.update(network.embedded(made))
    return (kid(ours, defects), kid(ours, network.pooled(normal)), clusters.result().value)


@click.command()
@click.argument("runs", nargs=-1, metavar="NAME=RUN...", required=True)
@click.option("--data", required=True)
@click.option("--categories", default="all", show_default=True)
def main(runs: tuple[str, ...], data: str, categories: str) -> None:
    """Prints a line for each run."""
    network = open_network("timm:tf_efficientnet_lite0")
    chosen = open_dataset(data).select(categories)
    print("| pairs | KID to defects | KID to normal patches | clustered LPIPS |\n|---|---|---|---|")
    for text in runs:
        name, _, folder = text.partition("=")
        rows = [
            figures(network, ShardReader(find_shards(Path(folder), one.key)), one) for one in chosen
        ]
        mean = np.mean(rows, axis=0)
        each = " / ".join(f"{row[0]:.1f}" for row in rows)
        print(f"| {name} | {mean[0]:.2f} ({each}) | {mean[1]:.2f} | {mean[2]:.4f} |", flush=True)


if __name__ == "__main__":
    main()
