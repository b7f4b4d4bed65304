"""ReDi beside plain implementations in one run, and beside RD and RealNet on real photographs.

    python benchmarks/redi.py                # HOG, self-correlation, complexity, throughput
    python benchmarks/redi.py tiles --data magnetic-tile --weights mobilenetv2_100.safetensors \\
        --out runs/redi-tiles [--shards runs/sia]
    python benchmarks/redi.py recovered runs/redi-tiles/redi-0 --data magnetic-tile

`recovered` measures whether recovered images are sharp where the part is normal, and whether
defects are gone from them. `tiles` can be stopped and run again: finished cells are skipped.
Times are processor time of this process.
"""

from __future__ import annotations

# ruff: noqa: E402 (the number of threads is set before numpy is loaded)
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as functional
from redi_counter import Counter
from skimage.feature import hog
from torch import Tensor, nn

from detector import run_folder as runfolder
from detector.model import Inputs, TrainingSet
from detector.models import rd, redi
from detector.nets.redi import distance, recover
from detector.nets.redi.hog import Hog
from detector.nets.redi.prompts import to_pixels
from detector.nets.redi.self_map import to_gray
from detector.options import TrainOptions, model_options, resolve
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.data.textures import CATEGORIES, photograph
from sia_gen.core.seeds import generator

torch.set_num_threads(1)


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Returns the least processor time of several runs."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def crops(count: int, size: int) -> Tensor:
    """Returns crops of gray photographs with shifted colours, (count, 3, size, size) in [0, 1]."""
    made = []
    for i in range(count):
        photo = photograph(CATEGORIES[i % len(CATEGORIES)])
        top, left = generator("redi", i).integers(0, 512 - size, 2)
        gray = photo[top : top + size, left : left + size]
        made.append(np.stack([np.roll(gray, shift, axis=1) for shift in range(3)], axis=-1))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255


def hog_table() -> None:
    """HOG of 256 x 256 images beside scikit-image, gray and colour."""
    print("HOG image of 256 x 256           scikit-image      here     ratio   largest difference")
    colour = crops(1, 256)
    for bins, cell in ((9, 8), (18, 4), (4, 8)):
        made = Hog(bins, cell)
        for name, image in (("gray", to_gray(colour)), ("colour", colour)):
            plain = image[0, 0] if name == "gray" else image[0].permute(1, 2, 0)
            asked = {"orientations": bins, "pixels_per_cell": (cell, cell), "visualize": True}
            asked["channel_axis"] = None if name == "gray" else -1
            wanted = hog(plain.numpy(), **asked)[1]
            error = float((made(image)[0, 0] - torch.from_numpy(wanted)).abs().max())
            slow = seconds(lambda p=plain, a=asked: hog(p.numpy(), **a))
            fast = seconds(lambda m=made, i=image: [m(i) for _ in range(5)]) / 5
            print(
                f"{bins:3} bins, {cell} x {cell}, {name:<10} {slow * 1e3:12.1f} ms"
                f" {fast * 1e3:6.2f} ms {slow / fast:8.0f}   {error:.1e}"
            )


LAYERS = ((256, 64), (512, 32), (1024, 16))  # channels and side of WideResNet50's features


def _correlation(form: str, count: int, results: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    given = [torch.randn(4, c, side, side).relu() for c, side in LAYERS[:count]]
    found = [(x + 0.2 * torch.randn_like(x)).requires_grad_() for x in given]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    if form == "here":
        loss = distance.correlation_loss(given, found, "channel")
    else:
        norms = []
        for x, y in zip(given, found, strict=True):
            a, b = distance.normalised(x, "channel"), distance.normalised(y, "channel")
            squares = (a.mT @ a - b.mT @ b).square().sum((1, 2))
            norms.append((squares + distance.TINY).sqrt().mean())
        loss = torch.stack(norms).mean()
    loss.backward()
    took = time.process_time() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    results.put((float(loss.detach()), peak, took))


def correlation_table() -> None:
    """The self-correlation loss, forward and backward, each form in a process of its own."""
    print("\nself-correlation, batch 4   direct: MiB  seconds   here: MiB  seconds  memory")
    context = multiprocessing.get_context("spawn")
    for count, name in ((1, "layer 1"), (3, "layers 1, 2, 3")):
        found = {}
        for form in ("direct", "here"):
            results = context.Queue()
            child = context.Process(target=_correlation, args=(form, count, results))
            child.start()
            found[form] = results.get()
            child.join()
        (v, m, t), (w, n, u) = found["direct"], found["here"]
        print(
            f"{name:<26} {m:12.0f} {t:8.2f}   {n:9.0f} {u:8.2f}  {n / max(m, 1e-9):6.2f}"
            f"  losses differ by {abs(v - w) / v:.0e}"
        )


def millions(*modules: nn.Module) -> float:
    """Returns the number of parameters in millions."""
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


def complexity_table() -> None:
    """Table 12 on one basis: what is trained, what is frozen, all passes of one inference."""
    image = crops(1, 256)
    made = redi.build(redi.Options(weights="random"), 0).eval()
    plain = rd.build(rd.Options(weights="random"), 0).eval()
    inpainter = recover.UNet(3, 64).eval()
    assert made.recovery is not None and made.recovery.bank is not None
    made.recovery.bank.fill(to_pixels(crops(3, 256)), torch.rand(3, 2048))
    # RD++: RD with a projection of four 3 x 3 convolutions on each layer, 11.25 C^2 weights.
    projections = 11.25 * sum(c * c for c in (256, 512, 1024)) / 1e6
    frozen = millions(plain.backbone)
    # name, trained, frozen, the network that runs, passes of it, the paper's M / G
    rows: list[tuple[str, float, float, nn.Module | None, int, str]] = [
        ("RIAD (12 passes)", millions(inpainter), 0.0, inpainter, 12, "28.8 / 222.1"),
        ("RD", millions(plain.block), frozen, plain, 1, "83.8 / 38.9"),
        ("RD++", millions(plain.block) + projections, frozen, None, 0, "166.1 / 62.0"),
        (
            "ReDi",
            millions(made.recovery.net, made.block),
            millions(made.backbone),
            made,
            1,
            "106.4 / 107.2",
        ),
    ]
    print("\none image of 256 x 256  trained     frozen    GMAC  as thop  seconds   paper: M / G")
    for name, trained, kept, network, passes, told in rows:
        text = f"{name:<20} {trained:8.2f} M {kept:8.2f} M"
        measured = " " * 26
        if network is not None:
            counter = Counter(network)
            with torch.no_grad():
                took = seconds(lambda n=network: n(image), 1) * passes
            counter.close()
            true, thop = counter.true * passes / 1e9, counter.thop * passes / 1e9
            measured = f" {true:7.1f} {thop:8.1f} {took:8.2f}"
        print(f"{text}{measured}   {told}", flush=True)
    print("ReDi's backbone runs to layer 4 for the retrieval, RD's stops at layer 3")


def _mobile(**changes: Any) -> tuple[redi.ReDi, TrainOptions]:
    # With the paper's map, whose plain implementation the comparison is about.
    changes = {"weights": "random", "map": "hog", "batch_size": 8, **changes}
    options = resolve("redi-mobile", changes, redi.Options)
    return redi.build(model_options(redi.Options, options.options), 0), options


def _plain_features(model: redi.ReDi, images: Tensor, bank: Tensor) -> tuple[Any, Any]:
    """Returns F_X and R_Y as the paper's text has them: every step by itself, nothing kept."""
    assert model.recovery is not None and model.recovery.bank is not None
    own = model.options
    maps = []
    for gray in to_gray(images)[:, 0].numpy():
        cell = (own.map_cell, own.map_cell)
        maps.append(hog(gray, orientations=own.map_bins, pixels_per_cell=cell, visualize=True)[1])
    drawn = torch.from_numpy(np.stack(maps)).float()[:, None] * model.recovery.map.gain
    asked = functional.normalize(model.backbone(images)[-1].mean((2, 3)), dim=1)
    place = (asked @ bank.T).topk(2, dim=1).indices[:, 1]
    prompts = model.recovery.bank.prompts(place)
    recovered = model.recovery.net(drawn.clamp(0, 1) * 2 - 1, prompts).add(1).div(2)
    pair = [model.backbone(x)[: model.count] for x in (images, recovered)]
    return model.scaling(pair[0]), model.scaling(pair[1])


def throughput_table(images: int = 32) -> None:
    """Images/s of redi-mobile, second stage and inference, beside the plain implementation."""
    model, options = _mobile()
    x = crops(images, options.resolution)
    model.prepare(TrainingSet(images=len(x), normal=list(x.split(16)), pairs=[]), 0)
    model.eval()
    assert model.recovery is not None and model.recovery.bank is not None
    bank, batch = model.recovery.bank.features, x[: options.batch_size]
    index = torch.arange(len(batch))

    def step(
        features: Any, recovered: Any, correlation: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        found = model.block(recovered)
        loss = distance.cosine_loss(features, found, "global")
        loss = loss + sum(
            (correlation(distance.normalised(a, "channel"), distance.normalised(b, "channel"))
             + distance.TINY).sqrt().mean()
            for a, b in zip(features, found, strict=True)
        )  # fmt: skip
        model.block.zero_grad()
        loss.backward()

    def direct(a: Tensor, b: Tensor) -> Tensor:
        return (a.mT @ a - b.mT @ b).square().sum((1, 2))

    def plain_step() -> None:
        with torch.no_grad():
            features, recovered = _plain_features(model, batch, bank)
        step(features, recovered, direct)

    def plain_inference() -> None:
        features, recovered = _plain_features(model, batch, bank)
        distance.layer_maps(features, model.block(recovered), options.resolution)

    with torch.no_grad():
        constants = model.constants("discriminate", batch, index)
        slow = seconds(plain_inference)
        fast = seconds(lambda: model(batch))
    inputs = Inputs(anomalous_A3HW=x[:0], masks_AHW=x[:0], constants=constants, indices_B=index)
    trained = seconds(lambda: sum(model.losses("discriminate", inputs).values()).backward())  # type: ignore[union-attr]
    plain = seconds(plain_step)
    print("\nredi-mobile at 128 x 128, images/s        plain       here    ratio")
    for name, a, b in (
        ("second stage, a training step", plain, trained),
        ("inference", slow, fast),
    ):
        print(f"{name:<38} {len(batch) / a:8.1f} {len(batch) / b:10.1f} {a / b:8.1f}")


TABLES: dict[str, Callable[[], None]] = {
    "hog": hog_table,
    "correlation": correlation_table,
    "throughput": throughput_table,
    "complexity": complexity_table,
}


@click.group(invoke_without_command=True)
@click.option("--only", default=",".join(TABLES), show_default=True, help="Tables to make.")
@click.pass_context
def main(context: click.Context, only: str) -> None:
    """Measures ReDi's parts; `tiles` compares detectors on real photographs."""
    if context.invoked_subcommand is None:
        for name in only.split(","):
            TABLES[name]()


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", *arguments]
    print("+ " + " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True)


@main.command()
@click.option("--data", required=True, help="Folder in MVTec-AD's layout.")
@click.option("--weights", required=True, help="MobileNetV2's ImageNet weights, a file.")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--shards", help="Run of `sia-gen run` for RealNet; without, its source is nsa.")
@click.option("--detectors", default="redi,rd,realnet", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--realnet-steps", default=150, show_default=True)
def tiles(
    data: str,
    weights: str,
    out: Path,
    shards: str | None,
    detectors: str,
    seeds: int,
    realnet_steps: int,
) -> None:
    """Trains, scores and ranks each detector with each seed; ReDi takes 15 minutes of one core."""
    source = ["--shards", shards] if shards else ["--source", "nsa"]
    own = {
        "redi": ["--recipe", "redi-mobile"],
        "rd": ["--recipe", "rd-mobile"],
        "realnet": ["--recipe", "mobile", "--resolution", "128", "--batch", "16",
                    "--steps", str(realnet_steps), *source],
    }  # fmt: skip
    for seed in range(seeds):
        for name in detectors.split(","):
            run = str(out / f"{name}-{seed}")
            chosen = ["--data", data, "--category", "all"]
            _run("detector.cli", "train", *chosen, *own[name], "--weights", weights,
                 "--holdout", "0.1", "--seed", str(seed), "--out", run)  # fmt: skip
            _run("detector.cli", "score", "--run", run, *chosen)
            _run("harness.cli", "evaluate", run, "--out", str(out / "results"))
    _run("harness.cli", "leaderboard", str(out / "results"))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Folder in MVTec-AD's layout.")
def recovered(runs: tuple[Path, ...], data: str) -> None:
    """Measures recovered images: sharp where normal, and are defects replaced?"""
    from redi_recovered import recovered_table

    for run in runs:
        for category in open_dataset(data).categories:
            if (runfolder.folder_of(run, category) / runfolder.DOCUMENT).is_file():
                recovered_table(runfolder.folder_of(run, category), category)


if __name__ == "__main__":
    main()
