"""Sampling throughput beside a plain float32 loop over the same weights, in one run.

    python benchmarks/sampling.py [--model textures-64] [--images 64] [--batch 16] [--threads 2]

Prints images/s of both, their ratio, and the deviation of the final images (PSNR, 8 bits).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np
import torch

from sia_gen.core.images import Array8
from sia_gen.core.seeds import derive_seed
from sia_gen.diffusion.generator import Generator, load_generator, load_unet
from sia_gen.diffusion.model_folder import find_model
from sia_gen.diffusion.sampling import image_generators, sample, to_uint8
from sia_gen.diffusion.unet import Denoiser

STRENGTH = 0.15


def plain_loop(generator: Generator, category: str) -> Callable[[list[int]], Array8]:
    """Returns a straightforward loop: float32, contiguous weights, no autocast."""
    facts = generator.facts
    network = Denoiser(load_unet(facts.folder), facts.patch).eval().to(generator.device)
    shape = (facts.channels, facts.resolution, facts.resolution)

    def make(seeds: list[int]) -> Array8:
        label = torch.full((len(seeds),), facts.classes.index(category), device=generator.device)
        x_0 = sample(
            lambda x, t: network(x, t, label),
            generator.scheduler,
            shape,
            image_generators(seeds),
            [STRENGTH] * len(seeds),
            generator.device,
        )
        return to_uint8(x_0)

    return make


def timed(make: Callable[[list[int]], Array8], images: int, batch: int) -> tuple[float, Array8]:
    """Returns images/s and the images, the first batch left out of the clock."""
    seeds = [derive_seed("benchmark", i) for i in range(images)]
    batches = [seeds[i : i + batch] for i in range(0, images, batch)]
    made = [make(batches[0])]
    began = time.perf_counter()
    made += [make(b) for b in batches[1:]]
    seconds = time.perf_counter() - began
    return (images - batch) / seconds, np.concatenate(made)


@click.command()
@click.option("--model", default="textures-64", show_default=True)
@click.option("--images", default=64, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--device", default="auto", show_default=True)
def main(model: str, images: int, batch: int, threads: int, device: str) -> None:
    """Compare the generator with a plain float32 loop."""
    torch.set_num_threads(threads)
    steps = 20
    generator = load_generator(find_model(model), device=device, steps=steps)
    category = generator.classes[0]
    ours_rate, ours = timed(
        lambda seeds: generator.images(category, seeds, [STRENGTH] * len(seeds)), images, batch
    )
    plain_rate, reference = timed(plain_loop(generator, category), images, batch)
    error = np.mean((ours.astype(np.float64) - reference) ** 2, axis=(1, 2, 3))
    psnr = 10 * np.log10(255.0**2 / np.maximum(error, 1e-12))
    print(f"model {model}, {images} images, batch {batch}, {steps} steps, {threads} threads")
    print(f"{'loop':<34}{'images/s':>10}{'ratio':>8}")
    print(f"{'plain float32':<34}{plain_rate:>10.2f}{1.0:>8.2f}")
    name = f"generator ({generator.precision}, channels-last)"
    print(f"{name:<34}{ours_rate:>10.2f}{ours_rate / plain_rate:>8.2f}")
    print(f"PSNR to float32: median {np.median(psnr):.1f} dB, lowest {psnr.min():.1f} dB")


if __name__ == "__main__":
    main()
