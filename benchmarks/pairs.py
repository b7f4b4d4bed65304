"""Training pairs a second on one core, beside a plain NumPy transcription of the formulas.

    python benchmarks/pairs.py [--size 256] [--seconds 4]

First table: Perlin mask, foreground and blending (RealNet, Eq. 3) as a loop over the formulas
would have them (every lattice point's gradient stretched to the image's size, Otsu's criterion
threshold by threshold, closing and opening as sliding windows, blending of whole float images)
and as this package has them. Second table: pairs a second of each method, foregrounds kept as
training keeps them. Processor time of this process, so that other processes do not count.
"""

from __future__ import annotations

# ruff: noqa: E402 (the number of threads is set before numpy is loaded)
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from scipy import ndimage
from shard_files import write_record, write_tar

from sia_gen import methods
from sia_gen.core.context import Context
from sia_gen.core.data.textures import CATEGORIES, photograph
from sia_gen.core.pixels import foreground, pairs
from sia_gen.core.pixels.images import Array8, Mask, encode_png
from sia_gen.core.plugins import load
from sia_gen.core.seeds import generator
from sia_gen.core.store.shards import Synthetic

RULE = "otsu dark gray close=6 open=6"
NORMALS, TEXTURES = 24, 60


def crop(index: int, size: int) -> Array8:
    """Returns an RGB crop of a photograph, another one for each index."""
    rng = generator("benchmark", index)
    photo = photograph(CATEGORIES[index % len(CATEGORIES)])
    side = int(rng.integers(200, 400))
    top, left = rng.integers(0, 512 - side, 2)
    piece = Image.fromarray(photo[top : top + side, left : left + side]).resize((size, size))
    tint = rng.uniform(0.6, 1.0, 3)
    return (np.asarray(piece)[..., None] * tint).astype(np.uint8)


def part(index: int, size: int) -> Array8:
    """Returns a dark disc on a bright ground, with a photograph's texture on both."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    disc = (y**2 + x**2 < 0.16)[..., None]
    return np.where(disc, crop(index, size) // 3, 255 - crop(index, size) // 6).astype(np.uint8)


def plain_perlin(size: int, rng: np.random.Generator) -> Mask:
    """Returns a Perlin mask with everything at the image's size, in float64."""
    cells = 2 ** rng.integers(0, 6, 2)
    step = size // cells
    y, x = np.mgrid[0 : cells[0] : cells[0] / size, 0 : cells[1] : cells[1] / size] % 1
    angles = rng.uniform(0, 2 * np.pi, cells + 1)
    gradients = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    full = np.repeat(np.repeat(gradients, step[0], axis=0), step[1], axis=1)

    def corner(dy: int, dx: int) -> np.ndarray:
        ours = full[dy * step[0] : dy * step[0] + size, dx * step[1] : dx * step[1] + size]
        return (np.stack([y - dy, x - dx], axis=-1) * ours).sum(axis=-1)

    fade_y, fade_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
    top = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    bottom = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    field = np.sqrt(2) * (top + fade_y * (bottom - top))
    turned = ndimage.rotate(field, rng.uniform(-90, 90), reshape=False, order=1)
    return turned > 0.5


def plain_foreground(image: Array8) -> Mask:
    """Returns the foreground with Otsu's criterion and the windows written out."""
    gray = np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    shares = np.array([(gray == value).mean() for value in range(256)])
    values = np.arange(256)
    best, threshold = -1.0, 0
    for t in range(256):
        low, high = shares[: t + 1].sum(), shares[t + 1 :].sum()
        if low > 0 and high > 0:
            below = (shares[: t + 1] * values[: t + 1]).sum() / low
            above = (shares[t + 1 :] * values[t + 1 :]).sum() / high
            between = low * high * (below - above) ** 2
            if between > best:
                best, threshold = between, t
    mask = gray <= threshold
    for operation, before in (("max", 2), ("min", 3), ("min", 2), ("max", 3)):
        padded = np.pad(mask, (before, 5 - before), mode="symmetric")
        mask = getattr(sliding_window_view(padded, (6, 6)), operation)(axis=(2, 3))
    return mask


def plain_blend(normal: Array8, other: Array8, mask: Mask, opacity: float) -> Array8:
    """Returns Equation 3 on whole float64 images."""
    m = mask[..., None].astype(np.float64)
    image = (1 - m) * normal + (1 - opacity) * m * normal + opacity * m * other
    return np.rint(image).astype(np.uint8)


def rate(make: Callable[[int], object], seconds: float) -> float:
    """Returns calls a second of processor time, the first few left out."""
    for index in range(3):
        make(index)
    done, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        make(done)
        done += 1
    return done / (time.process_time() - began)


def in_turns(makers: list[Callable[[int], object]], seconds: float) -> list[float]:
    """Returns the rates of several makers, measured in turns: noise then meets all alike."""
    found = [[rate(make, seconds / 4) for make in makers] for _ in range(4)]
    return [float(np.median(rates)) for rates in zip(*found, strict=True)]


def formulas(size: int, seconds: float) -> None:
    """Prints the first table."""
    normals, others = [part(i, size) for i in range(8)], [crop(i, size) for i in range(8)]
    regions = [foreground.estimate(n, RULE) for n in normals]

    def plain(i: int) -> Array8:
        rng = generator(i)
        mask = plain_perlin(size, rng) & plain_foreground(normals[i % 8])
        return plain_blend(normals[i % 8], others[i % 8], mask, rng.uniform(0.5, 1.0))

    def ours(i: int) -> object:
        region = foreground.estimate(normals[i % 8], RULE)
        return pairs.make_pair(normals[i % 8], others[i % 8], region, (0.5, 1.0), generator(i))

    def kept(i: int) -> object:
        return pairs.make_pair(
            normals[i % 8], others[i % 8], regions[i % 8], (0.5, 1.0), generator(i)
        )

    def plain_kept(i: int) -> Array8:
        rng = generator(i)
        mask = plain_perlin(size, rng) & regions[i % 8]
        return plain_blend(normals[i % 8], others[i % 8], mask, rng.uniform(0.5, 1.0))

    for normal, region in zip(normals, regions, strict=True):
        agree = (plain_foreground(normal) == region).mean()
        if agree < 0.999:
            raise SystemExit(f"the two foregrounds agree on {agree:.4f} of the pixels only")
    rates = in_turns([plain, ours, plain_kept, kept], seconds)
    print(f"{'Perlin mask + foreground + blending':<44}{'pairs/s':>10}{'ratio':>8}")
    print(f"{'plain NumPy':<44}{rates[0]:>10.1f}{1.0:>8.2f}")
    print(f"{'this package':<44}{rates[1]:>10.1f}{rates[1] / rates[0]:>8.2f}")
    print(f"{'plain NumPy, foreground kept':<44}{rates[2]:>10.1f}{1.0:>8.2f}")
    print(f"{'this package, foreground kept':<44}{rates[3]:>10.1f}{rates[3] / rates[2]:>8.2f}")


def write_inputs(folder: Path, size: int) -> tuple[Path, tuple[Path, ...]]:
    """Writes a texture folder and a finished shard; returns both."""
    textures = folder / "textures"
    textures.mkdir()
    for i in range(TEXTURES):
        (textures / f"{i:03}.png").write_bytes(encode_png(crop(100 + i, 300)))
    samples = [
        Synthetic(key=f"s-{i:03}", image=crop(200 + i, size), metadata={"index": i})
        for i in range(TEXTURES)
    ]
    tar = folder / "shards" / "s.tar"
    write_record(tar, {"category": "bench/part", **write_tar(tar, samples)})
    return textures, (tar,)


def all_methods(size: int, seconds: float) -> None:
    """Prints the second table."""
    normals = [part(i, size) for i in range(NORMALS)]
    regions = [foreground.estimate(n, RULE) for n in normals]
    print(f"\n{'method, foregrounds kept':<44}{'pairs/s':>10}{'empty':>8}")
    with tempfile.TemporaryDirectory() as name:
        textures, shards = write_inputs(Path(name), size)
        for method in ("sdas", "dtd", "nsa", "cutpaste", "noise"):
            module = load(methods, method)
            options = module.Options(**({"textures": str(textures)} if method == "dtd" else {}))
            context = Context(
                resolution=size,
                category="bench/part",
                kind="object",
                normals=NORMALS,
                image=normals.__getitem__,
                foreground=regions.__getitem__,
                shards=shards,
            )
            built = module.build(options, context)
            empty = 0

            def make(i: int) -> None:
                nonlocal empty
                pair = built.pair(normals[i % NORMALS], regions[i % NORMALS], generator(i))  # noqa: B023
                empty += not pair.mask.any()

            for i in range(2 * TEXTURES):  # decodes what is decoded once
                make(i)
            empty, began = 0, time.process_time()
            done = 0
            while time.process_time() - began < seconds:
                make(done)
                done += 1
            spent = time.process_time() - began
            print(f"{method:<44}{done / spent:>10.1f}{empty / done:>8.1%}")


@click.command()
@click.option("--size", type=int, default=256, show_default=True, help="Pixels a side.")
@click.option("--seconds", type=float, default=4.0, show_default=True, help="For each row.")
def main(size: int, seconds: float) -> None:
    """Measures the making of training pairs on one core."""
    print(f"{size} x {size} pixels, one thread, processor time")
    formulas(size, seconds)
    all_methods(size, seconds)


if __name__ == "__main__":
    main()
