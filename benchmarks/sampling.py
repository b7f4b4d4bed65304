"""Sampling throughput beside a plain float32 loop over the same weights, in one run.

    python benchmarks/sampling.py [--model textures-64 | --preset adm-256] [--images 64]

Prints, for both: images/s, TFLOP/s achieved (FLOPs of the published form of the network, counted
without computing, multiply-add = 2), its share of the bf16 and float32 matrix rates measured in the
same run, peak memory, and the ratio; then the deviation of the final images (PSNR, 8 bits).
A third loop grows anomalies in place at --depth; its time is held against whole images.
The loops take turns, batch by batch, so that a busy machine disturbs them alike.
`--preset` takes a network with random weights: speed does not depend on them.
"""

from __future__ import annotations

import copy
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from sia_gen.core.pixels.images import Array8
from sia_gen.core.provenance import sha256_file
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.files import write_json
from sia_gen.diffusion.generator import Generator, load_generator, load_unet
from sia_gen.diffusion.model_folder import FACTS, SCHEMA, WEIGHTS, find_model
from sia_gen.diffusion.probe import best, probe
from sia_gen.diffusion.scheduler import SDASScheduler
from sia_gen.diffusion.unet import Denoiser, configuration
from sia_gen.diffusion.unet import preset as find_preset

STRENGTH = 0.15
Make = Callable[[list[int]], Array8]


def random_model(name: str, folder: Path) -> Path:
    """Writes a model folder of a preset with random weights and returns it."""
    shape = find_preset(name)
    torch.manual_seed(0)
    network = UNet2DModel(
        **configuration(shape, channels=3, classes=15, resolution=shape.resolution)
    )
    network.save_pretrained(str(folder / "unet"))
    SDASScheduler().save_pretrained(str(folder / "scheduler"))
    facts = {
        "schema": SCHEMA,
        "dataset": "random",
        "classes": [str(i) for i in range(15)],
        "resolution": shape.resolution,
        "channels": 3,
        "patch": shape.patch,
        "checkpoint_sha256": sha256_file(folder / WEIGHTS),
    }
    write_json(folder / FACTS, facts)
    return folder


def plain_loop(generator: Generator, category: str) -> Make:
    """Returns a straightforward loop: diffusers' network, float32, contiguous, no autocast."""
    plain = copy.copy(generator)
    network = load_unet(generator.facts.folder).eval().to(generator.device)

    def whole(x_BCHW: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        count = len(x_BCHW)
        out: torch.Tensor = network(x_BCHW, t.expand(count), label.expand(count)).sample
        return out

    plain.network = whole
    return lambda seeds: plain.images(category, seeds, [STRENGTH] * len(seeds))


def flops_per_image(generator: Generator) -> int:
    """Returns the FLOPs of an image, all its steps, of UNet2DModel as published."""
    facts = generator.facts
    with torch.device("meta"), torch.no_grad():
        network = UNet2DModel.from_config(load_config(facts.folder)).eval()
        x = torch.empty(1, facts.channels, facts.resolution, facts.resolution)
        with FlopCounterMode(display=False) as counter:
            Denoiser(network, facts.patch)(x, torch.zeros(1), torch.zeros(1).long())
    return int(counter.get_total_flops()) * len(generator.scheduler.timesteps)


def load_config(folder: Path) -> dict[str, object]:
    """Returns the configuration of a model folder's network."""
    return dict(UNet2DModel.load_config(str(folder), subfolder="unet"))


def synchronise(device: torch.device) -> None:
    """Waits for what a GPU still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the FLOP/s of a square matrix product, the best of some rounds.

    On a CPU the seconds are those it was given: other processes on the machine do not count.
    """
    on_gpu = device.type == "cuda"
    threads = torch.get_num_threads()

    def clock() -> float:
        synchronise(device)
        return time.perf_counter() if on_gpu else time.process_time() / threads

    side = 8192 if on_gpu else 1024
    a = torch.randn(side, side, device=device).to(dtype)
    fastest = 0.0
    for _ in range(12):
        began = clock()
        a @ a
        fastest = max(fastest, 2 * side**3 / (clock() - began))
    return fastest


@dataclass
class Timed:
    """A loop with what it took: seconds and CPU seconds by batch, images, peak bytes."""

    make: Make
    device: torch.device
    seconds: list[float]
    cpu: list[float]
    images: list[Array8]
    peak: int = 0

    def turn(self, seeds: list[int], count: bool) -> None:
        """Makes one batch; the first one is left out of the clock."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        wall, cpu = time.perf_counter(), time.process_time()
        self.images.append(self.make(seeds))
        if count:
            self.seconds.append(time.perf_counter() - wall)
            self.cpu.append(time.process_time() - cpu)
        if self.device.type == "cuda":
            self.peak = max(self.peak, torch.cuda.max_memory_allocated(self.device))


def psnr(images: Array8, reference: Array8) -> np.ndarray:
    """Returns the PSNR of each image, in dB."""
    error = np.mean((images.astype(np.float64) - reference) ** 2, axis=(1, 2, 3))
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-12))


@click.command()
@click.option("--model", default="textures-64", show_default=True)
@click.option("--preset", help="A network with random weights instead of a model.")
@click.option("--images", default=64, show_default=True)
@click.option("--batch", default="16", show_default=True, help="A number, or `probe`.")
@click.option("--steps", default=20, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Compile the generator's network.")
@click.option("--depth", default=0.5, show_default=True, help="Of anomalies grown in place.")
def main(
    model: str,
    preset: str | None,
    images: int,
    batch: str,
    steps: int,
    threads: int,
    device: str,
    precision: str,
    compiled: bool,
    depth: float,
) -> None:
    """Compare the generator with a plain float32 loop."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = random_model(preset, Path(temporary)) if preset else find_model(model)
        generator = load_generator(
            folder, device=device, precision=precision, steps=steps, compiled=compiled
        )
        size = best(list(probe(generator, 64))).batch if batch == "probe" else int(batch)
        compare(generator, preset or model, images, size, threads, depth)


def compare(
    generator: Generator, name: str, images: int, batch: int, threads: int, depth: float
) -> None:
    """Prints the table."""
    device, category = generator.device, generator.classes[0]
    loops = {
        "plain float32": Timed(plain_loop(generator, category), device, [], [], []),
        f"generator ({generator.precision})": Timed(
            lambda seeds: generator.images(category, seeds, [STRENGTH] * len(seeds)),
            device,
            [],
            [],
            [],
        ),
    }
    side = generator.resolution
    normals = np.full((batch, side, side, 3), 128, dtype=np.uint8)
    masks = np.zeros((batch, side, side), dtype=np.bool_)
    masks[:, side // 4 : side // 2, side // 4 : side // 2] = True
    loops["in place"] = Timed(
        lambda seeds: generator.in_place(
            category, seeds, [STRENGTH] * len(seeds), normals, masks, depth
        ),
        device,
        [],
        [],
        [],
    )
    seeds = [derive_seed("benchmark", i) for i in range(max(images, 2 * batch))]
    with torch.no_grad():
        for i in range(0, len(seeds) - batch + 1, batch):
            for loop in loops.values():
                loop.turn(seeds[i : i + batch], count=i > 0)
    rates = {d: matrix_rate(device, d) for d in (torch.bfloat16, torch.float32)}
    flops = flops_per_image(generator)
    plain, ours, grown = loops.values()  # the last runs fewer steps: below the table
    print(f"{name}, {len(seeds)} images, batch {batch}, {len(generator.scheduler.timesteps)} steps")
    print(
        f"{device}, {threads} threads, torch {torch.__version__}; {flops / 1e12:.4g} TFLOP an image"
    )
    print(
        f"matrix rate: bf16 {rates[torch.bfloat16] / 1e12:.3g},"
        f" float32 {rates[torch.float32] / 1e12:.3g} TFLOP/s"
    )
    head = ("images/s", "ratio", "by CPU", "TFLOP/s", "of bf16", "of fp32", "GB")
    print(f"{'loop':<22}" + "".join(f"{title:>10}" for title in head))
    for title, loop in list(loops.items())[:2]:
        rate = batch * len(loop.seconds) / sum(loop.seconds)
        done = rate * flops
        shares = [done / r for r in rates.values()]
        row = [f"{rate:.3g}", f"{sum(plain.seconds) / sum(loop.seconds):.2f}"]
        row += [f"{sum(plain.cpu) / sum(loop.cpu):.2f}" if device.type == "cpu" else "-"]
        row += [f"{done / 1e12:.3g}", *(f"{share:.0%}" for share in shares)]
        row += [f"{loop.peak / 1e9:.2f}" if loop.peak else "-"]
        print(f"{title:<22}" + "".join(f"{cell:>10}" for cell in row))
    if device.type == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"peak memory of the process, both networks: {peak / 1e9:.2f} GB")
    share = sum(grown.cpu if device.type == "cpu" else grown.seconds)
    share /= sum(ours.cpu if device.type == "cpu" else ours.seconds)
    print(f"a pair in place at depth {depth:g} takes {share:.2f} x the time of a whole image")
    deviation = psnr(np.concatenate(ours.images), np.concatenate(plain.images))
    print(f"PSNR to float32: median {np.median(deviation):.1f} dB, lowest {deviation.min():.1f} dB")


if __name__ == "__main__":
    main()
