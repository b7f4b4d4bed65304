"""Is a model good enough to generate from? Its s = 0 samples must look like held-out normal images.

The figure is KID (unbiased squared MMD, cubic kernel) over features of a fixed, seeded, untrained
convolutional network: no download, the same numbers everywhere. It is no Inception KID and compares
with none. It is read against two figures of the same network and the same held-out images: KID of
training images (as good as it gets) and KID of visibly degraded training images (see `degrade`).
A model passes while its samples are nearer to the held-out images than the degraded ones are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from sia_gen.core.pixels.images import Array8
from sia_gen.core.seeds import derive_seed, generator

VERSION = 1
Floats = npt.NDArray[np.float64]


def _network() -> nn.Sequential:
    random = torch.Generator().manual_seed(derive_seed("health", VERSION))
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 128)):
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, padding_mode="reflect")
        scale = (2.0 / (inputs * 9)) ** 0.5
        weight = torch.randn(conv.weight.shape, generator=random) * scale
        # Filters without a mean answer to structure; the colour itself is added as statistics.
        conv.weight = nn.Parameter(weight - weight.mean(dim=(2, 3), keepdim=True))
        conv.bias = nn.Parameter(torch.randn(outputs, generator=random) * 0.1)
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers).eval()


@torch.no_grad()
def features(images_BHWC: Array8) -> Floats:
    """Returns features (B, D), float64: spatial mean and deviation of each channel and layer.

    The four layers (the image itself, then three of the network) are scaled to weigh alike.
    """
    x = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    statistics = [_statistics(x)]
    for layer in _network():
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            statistics.append(_statistics(x))
    return torch.cat(statistics, dim=1).double().numpy()


def _statistics(x_BCHW: torch.Tensor) -> torch.Tensor:
    statistics = torch.cat([x_BCHW.mean(dim=(2, 3)), x_BCHW.std(dim=(2, 3))], dim=1)
    return statistics / statistics.shape[1] ** 0.5


def kid(x: Floats, y: Floats) -> float:
    """Returns the unbiased squared MMD of feature sets (N, D), (M, D), kernel (x.y / D + 1)^3."""
    n, m, dimensions = len(x), len(y), x.shape[1]
    xx, yy, xy = (((a @ b.T) / dimensions + 1.0) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2.0 * xy.mean())


def degrade(images_BHWC: Array8) -> Array8:
    """Returns the images visibly worse: blurred by sigma 1 pixel, then 10 grey levels of grain."""
    random = generator("health", VERSION, "degrade")
    grain = random.normal(0.0, 10.0, (*images_BHWC.shape[:3], 1))
    blurred = ndimage.gaussian_filter(images_BHWC.astype(np.float64), (0, 1, 1, 0))
    return np.clip(np.rint(blurred + grain), 0, 255).astype(np.uint8)


def _chance(train: Floats, reference: Floats, count: int) -> float:
    """Returns what KID of `count` normal images reaches by chance, above 0, from 20 draws.

    |mean| + 2 deviations: the mean is that of these held-out images, and may lie below 0.

    Where normal images differ among themselves more than the degradation changes them, this is the
    smallest difference that the figure can show.
    """
    random = generator("health", VERSION, "chance")
    size = min(count, len(train))
    draws = [kid(train[random.choice(len(train), size, False)], reference) for _ in range(20)]
    return float(abs(np.mean(draws)) + 2.0 * np.std(draws))


def measure(
    samples: dict[str, Array8], train: dict[str, Array8], held_out: dict[str, Array8]
) -> dict[str, Any]:
    """Returns the health of a model per category and as a whole, from images (N, H, W, 3).

    `relative` is KID(samples) over KID(degraded), or over what normal images reach by chance where
    that is larger; `relative_to_train` is KID(samples) / |KID(train)|; all against the held-out
    images. The model passes when every category's `relative` is below 1.
    """
    categories: dict[str, dict[str, float]] = {}
    for name in samples:
        train_features = features(train[name])
        # Centred and scaled as a whole by the training images: a variance per feature would let
        # one that hardly varies rule the kernel.
        mean = train_features.mean(axis=0)
        deviation = np.sqrt(train_features.var(axis=0).mean()) + 1e-6

        def standard(images: Array8, mean: Floats = mean, deviation: float = deviation) -> Floats:
            return (features(images) - mean) / deviation

        reference = standard(held_out[name])
        figures = {
            "kid": kid(standard(samples[name]), reference),
            "kid_train": kid(standard(train[name]), reference),
            "kid_degraded": kid(standard(degrade(train[name])), reference),
        }
        figures["kid_chance"] = _chance(standard(train[name]), reference, len(samples[name]))
        yardstick = max(figures["kid_degraded"], figures["kid_chance"])
        figures["relative"] = figures["kid"] / max(yardstick, 1e-9)
        figures["relative_to_train"] = figures["kid"] / max(abs(figures["kid_train"]), 1e-9)
        categories[name] = figures
    worst = max(figures["relative"] for figures in categories.values())
    return {
        "version": VERSION,
        "features": f"random-conv-v{VERSION}",
        "samples_per_category": min(len(images) for images in samples.values()),
        "held_out_per_category": min(len(images) for images in held_out.values()),
        "categories": categories,
        "worst_relative": worst,
        "passed": bool(worst < 1.0),
    }
