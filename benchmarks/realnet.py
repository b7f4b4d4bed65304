"""RealNet's speed beside a plain float32 implementation, measured in turns in one run.

    python benchmarks/realnet.py [--recipe mobile ...] [--weights FILE] [--resolution 256]
                                 [--batch 16] [--rounds 5] [--device auto]

The plain implementation passes both images of each pair through the backbone, keeps nothing from
one step to the next, and is contiguous float32. Ours is the trainer's and the scorer's own code.
Ready batches go to both: making pairs is not measured here (the trainer makes them in a thread).
With --shares the CPU time of each part of a step follows, pairs of the recipe's source included.
Prints training pairs/s and inference images/s of both, the median of the ratios, the largest
deviation of a score, parameters, FLOPs of a forward pass, and peak memory.
"""

from __future__ import annotations

import copy
import dataclasses
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as functional
from torch.utils.flop_counter import FlopCounterMode

from detector.data.source import build as build_source
from detector.maps import anomaly_maps
from detector.model import Inputs
from detector.models import realnet
from detector.nets import backbone as backbones
from detector.nets.whole import WholeImage
from detector.options import TrainOptions, model_options, resolve
from detector.training.constants import to_tensor
from detector.training.train import accelerator_for
from sia_gen.compute import device as devices
from sia_gen.core.context import Context
from sia_gen.core.pixels.images import Array8

COMPONENTS = 170  # of a whole image: what 200 to 700 normal images needed


def settle(device: torch.device) -> None:
    """Waits until the device has done all it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(act: Callable[[], Any], device: torch.device) -> float:
    """Returns the seconds of one call."""
    settle(device)
    began = time.perf_counter()
    act()
    settle(device)
    return time.perf_counter() - began


def in_turns(
    plain: Callable[[], Any], ours: Callable[[], Any], rounds: int, device: torch.device
) -> tuple[float, float, float]:
    """Returns median seconds of both and the median ratio of neighbouring calls."""
    plain(), ours()  # the first calls choose kernels
    pairs = [(timed(plain, device), timed(ours, device)) for _ in range(rounds)]
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    return first, second, statistics.median(a / b for a, b in pairs)


def plain_step(model: realnet.RealNet, optimizer: Any, batch: dict[str, Any]) -> None:
    """One training step as it is usually written: A and I of every pair through the backbone."""
    seen, normal = model.features(batch["seen"]), model.features(batch["normal"])
    restored, logits = model.judge(seen, batch["masks"].shape[-2:])
    loss = functional.cross_entropy(logits, batch["masks"].long())
    if model.reconstructions:
        for y, n in zip(restored, normal, strict=True):
            loss = loss + functional.mse_loss(y, n)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()


def make_batch(options: TrainOptions, device: torch.device) -> dict[str, Any]:
    """Returns a batch of noise images whose first half has squares of other noise."""
    rng = np.random.default_rng(0)
    size, count = options.resolution, options.batch_size
    normal = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    changed, masks = normal.copy(), np.zeros((count, size, size), dtype=np.bool_)
    masks[: count // 2, size // 4 : size // 2, size // 4 : size // 2] = True
    changed[masks] = 255 - changed[masks]

    def tensor(images: Array8) -> torch.Tensor:
        return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(255)

    batch = {"seen": tensor(changed).contiguous(), "normal": tensor(normal).contiguous()}
    masks_device = torch.from_numpy(masks).to(device)
    return batch | {"masks": masks_device, "images": changed, "normal_images": normal}


def training(
    model: realnet.RealNet, options: TrainOptions, precision: str, rounds: int, device: torch.device
) -> tuple[float, float, float]:
    """Returns pairs/s of the plain step and of the trainer's, and their ratio."""
    batch = make_batch(options, device)
    other = copy.deepcopy(model)
    accelerator = accelerator_for(str(device), precision)
    steps = []
    for one in (model, other):
        (stage,) = one.stages(options, 100)
        trained = [p for module in stage.trained for p in module.parameters()]
        steps.append((one.train(), stage.optimizer(trained)))
    (plain, plain_adam), (ours, ours_adam) = steps
    ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    half = options.batch_size // 2
    indices = torch.arange(options.batch_size, device=device)
    with torch.no_grad(), accelerator.autocast():
        kept = ours.constants("joint", to_tensor(batch["normal_images"], device), indices)

    def step() -> None:
        with accelerator.autocast():
            inputs = Inputs(
                anomalous_A3HW=to_tensor(batch["images"][:half], device),
                masks_AHW=batch["masks"][:half],
                constants=[f.index_select(0, indices) for f in kept],
                indices_B=indices,
            )
            loss = sum(ours.losses("joint", inputs).values())
        ours_adam.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        ours_adam.step()

    seconds = in_turns(lambda: plain_step(plain, plain_adam, batch), step, rounds, device)
    return options.batch_size / seconds[0], options.batch_size / seconds[1], seconds[2]


def shares(
    model: realnet.RealNet, options: TrainOptions, precision: str, textures: str
) -> dict[str, float]:
    """Returns the CPU seconds that the parts of the trainer's step take, one after the other.

    The trainer makes pairs in threads beside the rest.
    """
    device = torch.device("cpu")
    accelerator, half = accelerator_for("cpu", precision), options.batch_size // 2
    batch = make_batch(options, device)
    images = to_tensor(batch["images"][:half], device)
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    own = torch.arange(half)

    def cpu(act: Callable[[], Any]) -> float:
        act()
        began = time.process_time()
        for _ in range(3):
            act()
        return (time.process_time() - began) / 3

    found = {}
    with accelerator.autocast():
        with torch.no_grad():
            found["backbone"] = cpu(lambda: model.features(images))
            features = model.features(images)
        if model.reconstructions:
            found["reconstruction"] = cpu(
                lambda: sum(
                    net(torch.cat([x, x])).float().square().mean()
                    for net, x in zip(model.reconstructions, features, strict=True)
                ).backward()  # type: ignore[union-attr]
            )
        with torch.no_grad():
            if model.bank is not None:
                found["memory"] = cpu(lambda: model.bank(model.joined(features), own))
            _, residual, distance = model.witnesses(features)
        both = torch.cat([residual, residual])
        far = None if distance is None else torch.cat([distance, distance])
        size = images.shape[-2:]

        def judge() -> None:
            logits = model.decide(both, far, (size[0], size[1])).float()
            target = torch.zeros((options.batch_size, *size), dtype=torch.long)
            functional.cross_entropy(logits, target).backward()

        found["discriminator"] = cpu(judge)
    found["pairs"] = cpu(lambda: _pairs(options, batch["normal_images"], half, textures))
    return found


def _pairs(options: TrainOptions, normal: Array8, count: int, textures: str) -> None:
    whole = np.ones(normal.shape[1:3], dtype=np.bool_)
    context = Context(
        resolution=options.resolution, category="noise/images", kind="texture", normals=len(normal),
        image=lambda i: normal[i], foreground=lambda _: whole,
    )  # fmt: skip
    methods = {n: {**v, "textures": textures} if "textures" in v else v
               for n, v in options.methods.items()}  # fmt: skip
    method = build_source(dataclasses.replace(options, methods=methods), context)
    for k in range(count):
        method.pair(normal[k], whole, np.random.default_rng(k))


def inference(
    model: realnet.RealNet, options: TrainOptions, precision: str, rounds: int, device: torch.device
) -> tuple[float, float, float, float]:
    """Returns images/s of the plain forward pass and of the scorer's, their ratio, deviation."""
    batch = make_batch(options, device)
    ours = copy.deepcopy(model).inference_form()
    plain = model.eval()
    images = batch["images"]

    @torch.no_grad()
    def forward() -> Any:
        moved = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(255)
        return plain(moved.contiguous()).cpu().numpy()

    def score() -> Any:
        return anomaly_maps(ours, images, device, precision)

    seconds = in_turns(forward, score, rounds, device)
    deviation = float(np.abs(forward() - score()).max())
    return len(images) / seconds[0], len(images) / seconds[1], seconds[2], deviation


def furnished(model: realnet.RealNet) -> realnet.RealNet:
    """Returns a model with a memory and components of noise where its options want them."""
    if model.bank is not None:
        model.bank.members.normal_()
    if model.options.whole:
        channels = int(model.options.channels[-1])
        model.whole = WholeImage(channels, model.options.whole, COMPONENTS)
        model.whole.components.normal_()
    return model


def size_of(options: TrainOptions) -> tuple[float, float, float]:
    """Returns reconstruction parameters and all parameters in millions, GFLOP a forward pass."""
    inner = model_options(realnet.Options, options.options)
    with torch.device("meta"):
        net = backbones.empty(inner.backbone_options(0), "meta")
        model = furnished(realnet.RealNet(net, inner)).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, options.resolution, options.resolution))
    restoring = sum(p.numel() for p in model.reconstructions.parameters())
    everything = sum(p.numel() for p in model.parameters())
    return restoring / 1e6, everything / 1e6, counter.get_total_flops() / 1e9


def peak_gib(device: torch.device) -> float:
    """Returns the most memory so far: of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@click.command()
@click.option("--recipe", "recipes", multiple=True, default=("mobile",), show_default=True)
@click.option("--weights", default="random", show_default=True)
@click.option("--resolution", type=int, help="Instead of the recipe's.")
@click.option("--batch", type=int, help="Instead of the recipe's.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True, help="Of training.")
@click.option("--score-precision", default="fp32", show_default=True, help="Of inference.")
@click.option("--shares", "textures", metavar="DTD", help="Shares of a step; DTD's images.")
@click.option("--sizes-only", is_flag=True, help="Parameters and FLOPs, nothing timed.")
def main(
    recipes: tuple[str, ...],
    weights: str,
    resolution: int | None,
    batch: int | None,
    rounds: int,
    device: str,
    precision: str,
    score_precision: str,
    textures: str | None,
    sizes_only: bool,
) -> None:
    """Prints one block of lines for each recipe."""
    chosen = devices.choose_device(device)
    precision = devices.choose_precision(precision, chosen)
    for recipe in recipes:
        given: dict[str, Any] = {"weights": weights}
        given |= {"resolution": resolution} if resolution else {}
        given |= {"batch_size": batch} if batch else {}
        options = resolve(recipe, given, realnet.Options)
        restoring, everything, gflop = size_of(options)
        print(
            f"{recipe}: {options.resolution} x {options.resolution}, batch {options.batch_size},"
            f" {chosen.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        )
        print(f"  parameters  {restoring:.2f} M reconstruction, {everything:.2f} M in all")
        print(f"  forward     {gflop:.1f} GFLOP an image", flush=True)
        if sizes_only:
            continue
        model = furnished(realnet.build(model_options(realnet.Options, options.options), 0))
        model.to(chosen)
        spent = training(model, options, precision, rounds, chosen)
        print(
            f"  training    {spent[1]:.2f} pairs/s ({precision}), plain {spent[0]:.2f} (fp32):"
            f" {spent[2]:.2f} x",
            flush=True,
        )
        if textures:
            parts = shares(copy.deepcopy(model), options, precision, textures)
            total = sum(parts.values())
            told = ", ".join(f"{n} {1000 * v:.0f} ms ({v / total:.0%})" for n, v in parts.items())
            print(f"  CPU a step  {told}", flush=True)
        made = inference(model, options, score_precision, rounds, chosen)
        print(
            f"  inference   {made[1]:.2f} images/s ({score_precision}), plain {made[0]:.2f} (fp32):"
            f" {made[2]:.2f} x, largest deviation of a score {made[3]:.1e}"
        )
        print(f"  peak memory {peak_gib(chosen):.2f} GiB")


if __name__ == "__main__":
    main()
