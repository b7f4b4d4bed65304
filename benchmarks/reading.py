"""Random access to shards beside webdataset's own loader on the same tars, and what writing costs.

    python benchmarks/reading.py [--images 1024] [--workers 2]

256 x 256 crops of photographs with a sampler's grain. Memory of a long stream. Reading: decoded
images/s over all workers, the best of three passes each: random access to shards, the stream that
`--stream` reads, webdataset's loader. Writing: the share of a job's wall time beyond its generator,
which takes 100 ms an image (it sleeps, as a process does that waits for its GPU).
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from shard_files import write_record

from sia_gen.core.pixels.encoding import ENCODINGS
from sia_gen.core.pixels.images import Array8
from sia_gen.core.store.files import write_bytes
from sia_gen.core.store.shards import ShardReader
from sia_gen.core.store.tars import Synthetic, TarBuilder
from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.contents.images import KIND, ImageMaker
from sia_gen.generate.job import make_shard
from sia_gen.generate.recipe import ImageShard

SIDE = 256
GRAIN = 1.5


def photographs(count: int) -> list[Array8]:
    """Returns crops of the photographs that scikit-image ships, each with its own grain."""
    from skimage import data

    pictures = [data.brick(), data.grass(), data.gravel(), data.astronaut()]
    colour = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    rng = np.random.default_rng(0)
    images = []
    for i in range(count):
        picture = colour[i % len(colour)]
        y, x = rng.integers(0, picture.shape[0] - SIDE, 2)
        crop = picture[y : y + SIDE, x : x + SIDE] + rng.normal(0, GRAIN, (SIDE, SIDE, 3))
        images.append(np.clip(np.rint(crop), 0, 255).astype(np.uint8))
    return images


def write(folder: Path, images: Sequence[Array8], name: str, shard: int = 256) -> list[Path]:
    """Writes images as shards and returns the tars."""
    tars = []
    for number, first in enumerate(range(0, len(images), shard)):
        builder = TarBuilder(ENCODINGS[name])
        for i, image in enumerate(images[first : first + shard]):
            builder.add(Synthetic(key=f"x-{first + i:08}", image=image, metadata={"index": i}))
        tar = builder.finish()
        path = folder / f"{name}-{number:05}.tar"
        write_bytes(path, tar.content)
        write_record(path, {"category": "x", "spec_hash": "x", **tar.facts})
        tars.append(path)
    return tars


def _read(arguments: tuple[ShardReader, list[int]]) -> tuple[int, float]:
    reader, indices = arguments
    began = time.process_time()
    count = sum(reader.image(index).shape[0] == SIDE for index in indices)
    return count, time.process_time() - began


def ours(tars: list[Path], workers: int) -> tuple[float, float]:
    """Returns images/s of ShardReader in random order, and images a second of processor time."""
    reader = ShardReader(tars)
    order = np.random.default_rng(1).permutation(len(reader))
    parts = [(reader, order[i::workers].tolist()) for i in range(workers)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.map(_read, [(reader, [0])] * workers)
        began = time.perf_counter()
        answers = pool.map(_read, parts, chunksize=1)
        seconds = time.perf_counter() - began
    read = sum(count for count, _ in answers)
    if read != len(reader):
        raise SystemExit("not every image was read")
    return read / seconds, read / sum(cpu for _, cpu in answers)


def _unchanged(sample: dict[str, Any]) -> dict[str, Any]:
    return sample


def theirs(tars: list[Path], workers: int) -> float:
    """Returns images/s of webdataset's loader in the order of the tars."""
    import torch
    import webdataset

    torch.set_num_threads(1)
    dataset = webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False)
    dataset = dataset.decode("rgb8")
    loader = webdataset.WebLoader(
        dataset, num_workers=workers, batch_size=None, collate_fn=_unchanged
    )
    count, began = 0, 0.0
    for sample in loader:
        if count == 0:
            began = time.perf_counter()
        count += any(getattr(value, "ndim", 0) == 3 for value in sample.values())
    return (count - 1) / (time.perf_counter() - began)


def streamed(tars: list[Path], workers: int) -> float:
    """Returns images/s of this project's stream, shuffled, each image once."""
    from sia_gen.streams.pipeline import stream

    count = len(ShardReader(tars))
    samples = stream(tuple(map(str, tars)), seed=1, workers=workers)
    next(samples)
    began = time.perf_counter()
    for _ in range(count - 1):
        next(samples)
    return (count - 1) / (time.perf_counter() - began)


def stream_memory(root: Path, picture: Array8, samples: int) -> None:
    """Prints this process's memory while a long shuffled stream passes, read and decoded here.

    Shards of 1,000 images; resident memory after the first 1,000 samples, a quarter, a half and all
    of them, and the largest at any time.
    """
    import resource

    from sia_gen.streams.pipeline import stream

    tars = write(root, [picture] * 1000, "png", 1000) * (samples // 1000)
    size = tars[0].stat().st_size / 1000 / 1000
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    found = []
    flow = itertools.islice(stream(tuple(map(str, tars)), seed=1, workers=0), samples)
    for seen, sample in enumerate(flow, start=1):
        if sample.image is None:
            raise SystemExit("an image was not decoded")
        if seen in {1000, samples // 4, samples // 2, samples}:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            found.append(f"{resident:.0f} MiB after {seen:,}")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"shuffled stream, PNG of {size:.0f} kB: {', '.join(found)}; at most {most:.0f} MiB")


class Waiting:
    """A generator that takes 100 ms an image and no processor."""

    checkpoint_sha256 = "0" * 64
    health: dict[str, Any] = {"passed": True}  # noqa: RUF012
    device, precision, resolution, classes = "sleep", "uint8", SIDE, ("x",)

    def __init__(self, images: list[Array8]) -> None:
        self._images = images
        self.seconds = 0.0

    def images(self, category: str, seeds: Sequence[int], strengths: Sequence[float]) -> Array8:
        """Returns images after the time that they take."""
        del category, strengths
        began = time.perf_counter()
        time.sleep(0.1 * len(seeds))
        self.seconds += time.perf_counter() - began
        made = np.stack([self._images[seed % len(self._images)] for seed in seeds])
        # No twins: the first pixels spell the seed.
        spelt = np.array(seeds, dtype=np.uint64).view(np.uint8).reshape(len(seeds), 8)
        made[:, 0, :8, 0] = spelt
        return made


def hidden_writing(folder: Path, images: list[Array8], name: str, count: int) -> str:
    """Returns a line on the wall time of one shard beyond its generator's."""
    spec = ImageShard(
        **{"dataset": "d", "category": "x", "shard": 0, "first": 0, "count": count, "seed": 0},
        **{"s_low": 0.1, "s_high": 0.2, "batch_size": 16, "threads": 1, "steps": 20},
        **{"sampler": "iddpm", "precision": "auto", "checkpoint_sha256": "0" * 64},
        **{"resolution": SIDE, "method": "sdas-1", "format": ENCODINGS[name].format},
    )  # type: ignore[arg-type]
    generator = Waiting(images)
    maker = ImageMaker(WorkerConfig(kind=KIND, run="", given={"model": "waiting"}))
    maker.generator = generator  # type: ignore[assignment]
    began = time.perf_counter()
    make_shard(spec, maker, folder / name)
    wall = time.perf_counter() - began
    began = time.perf_counter()
    for image in images[:64]:
        ENCODINGS[name].encode(image)
    alone = (time.perf_counter() - began) / min(64, len(images)) * count
    share = (wall - generator.seconds) / wall
    return (
        f"{name:<8}{count:>6} images {wall:8.2f} s of which the generator {generator.seconds:7.2f}"
        f"   beyond it {100 * share:5.2f} %   (encoding alone {100 * alone / wall:5.2f} %)"
    )


def read_all(root: Path, pictures: list[Array8], workers: int) -> None:
    """Prints how fast shards of each encoding are read."""
    images = len(pictures)
    print(f"{images} images of {SIDE} x {SIDE}, {workers} workers: decoded images/s")
    heads = (
        ("kB", 7),
        ("ours, random", 14),
        ("stream, shuffled", 18),
        ("of random", 11),
        ("webdataset, in order", 22),
        ("ours of it", 12),
    )
    row = "".join(f"{head:>{width}}" for head, width in heads)
    print(f"{'encoding':<10}{row}{'ours a CPU second':>20}")
    for name in ENCODINGS:
        tars = write(root, pictures, name, max(1, images // 8))  # webdataset wants many
        size = sum(tar.stat().st_size for tar in tars) / images / 1000
        rows = [
            (*ours(tars, workers), streamed(tars, workers), theirs(tars, workers)) for _ in range(3)
        ]
        mine, cpu, flow, other = (max(column) for column in zip(*rows, strict=True))
        figures = f"{mine:>14.0f}{flow:>18.0f}{flow / mine:>11.2f}{other:>22.0f}"
        figures += f"{mine / other:>12.2f}{cpu:>20.0f}"
        print(f"{name:<10}{size:>7.1f}{figures}", flush=True)


@click.command()
@click.option("--images", default=1024, show_default=True, help="Read; 0 leaves reading out.")
@click.option("--workers", default=2, show_default=True)
@click.option("--stream-samples", default=20_000, show_default=True, help="Memory; 0: none.")
@click.option("--write-images", default=1000, show_default=True, help="Of the shard; 0: none.")
def main(images: int, workers: int, stream_samples: int, write_images: int) -> None:
    """Measure reading and writing."""
    os.environ["WDS_SECURE"] = "1"
    pictures = photographs(max(images, 64))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if stream_samples:
            stream_memory(root / "long", pictures[0], stream_samples)
        if images:
            read_all(root, pictures, workers)
        if write_images:
            print("writing beside a generator of 100 ms an image, one shard")
            print(hidden_writing(root, pictures[:64], "png", write_images), flush=True)


if __name__ == "__main__":
    main()
