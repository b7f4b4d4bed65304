"""Where the CPU time of sampling and of a detector's training step goes, by kind of operation.

    python benchmarks/profile_cpu.py [--model textures-64] [--batch 64] [--threads 1]

One process: the matrix rates first, then one pass of the sampler's network under torch's profiler,
grouped by operation and by the shapes of the convolutions, each with the FLOP/s it reaches.
"""

from __future__ import annotations

import time
from typing import Any

import click
import torch
from sampling import matrix_rate
from torch.profiler import ProfilerActivity, profile

from sia_gen.core.seeds import derive_seed
from sia_gen.diffusion.generator import load_generator
from sia_gen.diffusion.model_folder import find_model

GROUPS = {
    "convolution": ("conv",),
    "matrix product, attention": ("mm", "linear", "attention"),
    "norm": ("norm", "var_mean"),
    "activation": ("silu", "sigmoid"),
    "copy, cast, layout": ("copy", "to_copy", "clone", "contiguous", "cat", "pad"),
}


def group_of(name: str) -> str:
    """Returns the kind of an operation by its name."""
    for group, parts in GROUPS.items():
        if any(part in name for part in parts):
            return group
    return "the rest"


def convolution_flops(shapes: Any) -> float:
    """Returns the FLOPs of a convolution from the shapes of its input and weight (stride 1)."""
    x, w = shapes[0], shapes[1]
    return 2.0 * x[0] * x[2] * x[3] * w[0] * w[1] * w[2] * w[3]


@click.command()
@click.option("--model", default="textures-64", show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--precision", default="bf16", show_default=True)
def main(model: str, batch: int, threads: int, precision: str) -> None:
    """Profile one pass of the sampler."""
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    rate = matrix_rate(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    generator = load_generator(find_model(model), device="cpu", precision=precision)
    category = generator.classes[0]
    seeds = [derive_seed("profile", i) for i in range(batch)]
    generator.images(category, seeds[:2], [0.15] * 2)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        began = time.process_time()
        generator.images(category, seeds, [0.15] * batch)
        spent = time.process_time() - began
    print(f"matrix rate {rate / 1e12:.3g} TFLOP/s ({precision}, {threads} threads)")
    print(f"{batch} images: {spent:.2f} CPU s under the profiler")
    totals: dict[str, float] = {}
    for event in found.key_averages():
        own = event.self_cpu_time_total / 1e6
        totals[group_of(event.key)] = totals.get(group_of(event.key), 0.0) + own
    everything = sum(totals.values())
    for name, seconds in sorted(totals.items(), key=lambda item: -item[1]):
        print(f"  {name:<28}{seconds:8.2f} s {seconds / everything:6.1%}")
    loose = [e for e in found.key_averages() if group_of(e.key) == "the rest"]
    for event in sorted(loose, key=lambda e: -e.self_cpu_time_total)[:6]:
        print(f"    {event.key:<26}{event.self_cpu_time_total / 1e6:8.2f} s {event.count:>7} calls")
    rows = [
        event
        for event in found.key_averages(group_by_input_shape=True)
        if event.key == "aten::mkldnn_convolution" and event.input_shapes
    ]
    print(f"{'input':<24}{'weight':<22}{'calls':>6}{'CPU s':>8}{'of rate':>9}")
    for event in sorted(rows, key=lambda e: -e.self_cpu_time_total)[:12]:
        seconds = event.self_cpu_time_total / 1e6
        done = convolution_flops(event.input_shapes) * event.count
        share = done / seconds / rate
        x, w = (str(list(shape)) for shape in event.input_shapes[:2])
        print(f"{x:<24}{w:<22}{event.count:>6}{seconds:>8.2f}{share:>9.0%}")


if __name__ == "__main__":
    main()
