"""Which batch size pays: images a second and memory, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from sia_gen.core.seeds import derive_seed
from sia_gen.diffusion.generator import Generator

# A larger batch must gain this much, or the smaller one is as good and shares out better.
WORTHWHILE = 1.03


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One batch size: images a second, and the GPU's peak memory in bytes (None on a CPU)."""

    batch: int
    rate: float
    peak: int | None


def probe(generator: Generator, largest: int) -> Iterator[Probe]:
    """Yields a figure for batches of 1, 2, 4, ... images up to `largest`, or to full memory."""
    category, batch = generator.classes[0], 1
    while batch <= largest:
        try:
            yield _measure(generator, category, batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return
        batch *= 2


def best(probes: Sequence[Probe]) -> Probe:
    """Returns the smallest batch that no larger one beats by more than 3 %."""
    fastest = max(p.rate for p in probes)
    return next(p for p in probes if p.rate * WORTHWHILE >= fastest)


def _measure(generator: Generator, category: str, batch: int) -> Probe:
    seeds = [derive_seed("probe", i) for i in range(batch)]
    strengths = [0.15] * batch
    on_gpu = generator.device.type == "cuda"
    generator.images(category, seeds, strengths)  # compiles, chooses kernels
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(generator.device)
    began, rounds = time.perf_counter(), 0
    # The images come back to the CPU, which waits for the GPU.
    while rounds == 0 or time.perf_counter() - began < 1.0:
        generator.images(category, seeds, strengths)
        rounds += 1
    rate = rounds * batch / (time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(generator.device) if on_gpu else None
    return Probe(batch=batch, rate=rate, peak=peak)
