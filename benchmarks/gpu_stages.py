"""The stages of gpu.py: each measures, records a row at once, and looks at the clock in between."""

from __future__ import annotations

import itertools
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import realnet as detector_bench
import sampling as sampling_bench
import torch
from gpu_support import (
    Clock,
    Record,
    command,
    device_of,
    forget,
    gib,
    measured_training,
    seconds_of,
    tight,
    write_photographs,
)

from detector.models import realnet
from detector.options import model_options, resolve
from sia_gen.core.seeds import derive_seed
from sia_gen.diffusion.generator import load_generator

PAPER_SAMPLING = 0.463  # images/s on an RTX 3090, 20 steps (RealNet, Sec. 4)
PAPER_TRAINING, PAPER_INFERENCE = 31.93, 40.42  # images/s (RealNet, Table S8)


def machine(record: Record, small: bool, clock: Clock) -> None:
    """Matrix rates by data type, memory bandwidth, versions."""
    device = device_of(small)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    record(
        "versions",
        device=name,
        torch=torch.__version__,
        cuda=torch.version.cuda,
        python=platform.python_version(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
    )
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        if not clock.has(2):
            return
        rate = sampling_bench.matrix_rate(device, dtype)
        record(f"matrix product, {dtype}", tflops=round(rate / 1e12, 2))
    count = (1 << 24) if small else (1 << 31)
    a = torch.ones(count, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    took = seconds_of(lambda: b.copy_(a), device, 5)
    record("copy inside the memory", gb_per_s=round(2 * count / took / 1e9, 1))


def _forms(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "bf16, channels last", {"precision": "bf16"}
    if not small:
        yield "fp16, channels last", {"precision": "fp16"}
        yield "bf16, compiled, CUDA graphs", {"precision": "bf16", "compiled": True}


def sampling(record: Record, small: bool, clock: Clock) -> None:
    """Images/s of SDAS by batch and form: one evaluation of the network times the steps."""
    device = device_of(small)
    with tempfile.TemporaryDirectory() as temporary:
        folder = sampling_bench.random_model("tiny-16" if small else "adm-256", Path(temporary))
        kind = {"device": device.type, "steps": 2 if small else 20}
        rate = sampling_bench.matrix_rate(device, torch.bfloat16)
        reference = load_generator(folder, precision="fp32", **kind)
        category, flops = reference.classes[0], sampling_bench.flops_per_image(reference)
        seeds = [derive_seed("gpu", i) for i in range(4)]
        exact = reference.images(category, seeds, [0.15] * 4)
        plain = sampling_bench.plain_loop(reference, category)
        plain(seeds)
        took = seconds_of(partial(plain, seeds), device, 1)
        record("plain float32 loop, batch 4", images_per_s=round(4 / took, 3), gib=gib(device))
        del reference
        best = 4
        for form, given in _forms(small):
            forget(device)
            if not clock.has(1 if small else 30):
                record(f"{form}: no time was left")
                return
            generator = load_generator(folder, **kind, **given)
            fastest = 0.0
            batches = (2, 4) if small else ((8, 32, 64, 128) if best == 4 else (best,))
            for batch in batches:
                if not clock.has(1 if small else 15):
                    break
                forget(device)

                def make(batch: int = batch, generator: Any = generator) -> None:
                    many = [derive_seed("gpu", i) for i in range(batch)]
                    generator.images(category, many, [0.15] * batch)

                begun = time.monotonic()
                reason = tight(make)  # kernels, graphs
                if reason:
                    record(f"{form}, batch {batch}", reason=reason)
                    break
                first = time.monotonic() - begun
                speed = batch / detector_bench.timed(make, device)
                record(
                    f"{form}, batch {batch}",
                    images_per_s=round(speed, 3),
                    tflops=round(speed * flops / 1e12, 2),
                    share_of_matrix_rate=round(speed * flops / rate, 3),
                    times_paper=round(speed / PAPER_SAMPLING, 1),
                    first_call_s=round(first, 1),
                    gib=gib(device),
                )
                if speed < 1.02 * fastest:
                    break
                fastest, best = speed, batch
            deviation = sampling_bench.psnr(generator.images(category, seeds, [0.15] * 4), exact)
            record(f"{form}: PSNR to float32, 4 images", lowest_db=round(float(deviation.min()), 1))


def _recipe(name: str, small: bool, batch: int | None = None) -> Any:
    given: dict[str, Any] = {"weights": "random"}
    if small:
        given |= {"resolution": 64}
    if batch:
        given |= {"batch_size": batch}
    return resolve(name, given, realnet.Options)


def _train_turns(record: Record, what: str, model: Any, options: Any, small: bool) -> None:
    device = device_of(small)
    plain, ours, ratio = detector_bench.training(
        model, options, "fp32" if small else "bf16", 1 if small else 5, device
    )
    record(
        what,
        pairs_per_s=round(ours, 2),
        plain_fp32=round(plain, 2),
        ratio=round(ratio, 2),
        paper=PAPER_TRAINING,
        gib=gib(device),
    )


def detectors(record: Record, small: bool, clock: Clock) -> None:
    """RealNet: training pairs/s and inference images/s beside the plain implementation."""
    device = device_of(small)
    for name in ("mobile",) if small else ("realnet", "realnet-small"):
        for batch in (2,) if small else (None, 64):
            if not clock.has(1 if small else 25):
                record(f"{name}: no time was left")
                return
            options = _recipe(name, small, batch)
            forget(device)
            inner = model_options(realnet.Options, options.options)
            model = realnet.build(inner, 0).to(device)
            what = f"{name}, training, batch {options.batch_size}"
            reason = tight(partial(_train_turns, record, what, model, options, small))
            if reason:
                record(what, reason=reason)
        for batch in (2,) if small else (1, 16, 64):
            if not clock.has(1 if small else 10):
                break
            options = _recipe(name, small, batch if batch > 1 else 2)
            forget(device)
            model = realnet.build(model_options(realnet.Options, options.options), 0).to(device)
            plain, ours, ratio, deviation = detector_bench.inference(
                model, options, "fp32" if small else "bf16", 1 if small else 5, device
            )
            record(
                f"{name}, inference, batch {batch if batch > 1 else 2}",
                images_per_s=round(ours, 2),
                plain_fp32=round(plain, 2),
                ratio=round(ratio, 2),
                deviation=float(f"{deviation:.2g}"),
                paper=PAPER_INFERENCE,
                gib=gib(device),
            )


def redi(record: Record, small: bool, clock: Clock) -> None:
    """ReDi and RD: the trainer's own images/s over a few steps."""
    with tempfile.TemporaryDirectory() as temporary:
        side = 64 if small else 256
        data = write_photographs(Path(temporary), 24 if small else 64, side)
        shared = ["--data", str(data), "--categories", "part", "--weights", "random"]
        for name in ("rd-mobile",) if small else ("redi", "rd"):
            if not clock.has(1 if small else 20):
                record(f"{name}: no time was left")
                return
            steps = ["--steps", "2"] if small else ["--steps", "60"]
            size = ["--resolution", "64"] if small else []
            measured_training(
                record, name, [*shared, "--recipe", name, *steps, *size], clock, small
            )


def _diffusion_steps(
    record: Record, what: str, loop: Any, batch: int, told_gib: float, small: bool
) -> None:
    device, steps = device_of(small), itertools.count()
    took = seconds_of(lambda: loop._step(next(steps)), device, 2 if small else 8)
    record(what, images_per_s=round(batch / took, 2), gib=gib(device), estimated_gib=told_gib)


def diffusion(record: Record, small: bool, clock: Clock) -> None:
    """Diffusion training: images/s, peak memory beside the estimate printed before the start."""
    from accelerate import Accelerator

    from sia_gen.diffusion import memory, normals, train
    from sia_gen.diffusion.loop import Loop
    from sia_gen.diffusion.options import TrainOptions

    device = device_of(small)
    cases = [("tiny-16", 16, 2, False)] if small else []
    if not small:
        cases = [("small-128", 128, 64, False), ("adm-256", 256, 16, False)]
        cases += [("adm-256", 256, 32, True)]
    with tempfile.TemporaryDirectory() as temporary:
        data = write_photographs(Path(temporary), 48, 256)
        for name, side, batch, checkpointing in cases:
            if not clock.has(1 if small else 25):
                record(f"{name}: no time was left")
                return
            forget(device)
            options = TrainOptions(
                data=str(data),
                categories="all",
                out=str(Path(temporary) / f"{name}-{batch}-{checkpointing}"),
                preset=name,
                resolution=side,
                batch_size=batch,
                steps=1000,
                precision="fp32" if small else "bf16",
                device=device.type,
                gradient_checkpointing=checkpointing,
            )
            images = normals.read_normals(options)
            network, patch = train._new_network(options, images, 3)
            if checkpointing:
                network.enable_gradient_checkpointing()
            told = memory.estimate(network, patch, 3, options, options.precision)
            accelerator = Accelerator(
                mixed_precision="no" if small else "bf16", cpu=device.type == "cpu"
            )
            loop = Loop(options, images, accelerator, network, patch, 3)
            what = f"{name}, batch {batch}{', checkpointing' if checkpointing else ''}"
            told_gib = round(told.total / 2**30, 2)
            reason = tight(partial(_diffusion_steps, record, what, loop, batch, told_gib, small))
            if reason:
                record(what, reason=reason, estimated_gib=told_gib)
            del loop, network


def feeding(record: Record, small: bool, clock: Clock) -> None:
    """How many pairs/s the host makes, and how long a training step waits for its batch."""
    from detector.data.batches import Batches
    from detector.data.normals import NormalImages
    from sia_gen import methods
    from sia_gen.core.context import Context
    from sia_gen.core.plugins import load

    side, size = (64, 4) if small else (256, 32)
    with tempfile.TemporaryDirectory() as temporary:
        data = write_photographs(Path(temporary), 24 if small else 64, side)
        paths = tuple(sorted((data / "part" / "train" / "good").glob("*.png")))
        images = NormalImages([(paths, "whole")], side)
        context = Context(
            resolution=side,
            category="noise/part",
            kind="object",
            normals=len(images),
            image=images.image,
            foreground=images.foreground,
            shards=(),
            takes=lambda _: True,
        )
        for name in ("cutpaste", "nsa", "noise"):
            if not clock.has(1 if small else 8):
                return
            module = load(methods, name)
            made = module.build(module.Options(), context)
            batches = Batches(images, [made], size, 0)
            batches.batch(0)
            count, began = 0, time.perf_counter()
            for _ in batches.stream(0, 4 if small else 60):
                count += 1
            rate = count * size / (time.perf_counter() - began)
            record(f"{name}: batches made in threads", pairs_per_s=round(rate, 1))
        if not clock.has(1 if small else 20):
            return
        steps, shared = ("4" if small else "80"), ["--data", str(data), "--categories", "part"]
        given = [*shared, "--recipe", "mobile", "--source", "cutpaste", "--weights", "random"]
        given += ["--resolution", str(side), "--steps", steps]
        measured_training(
            record, "mobile with cutpaste, the trainer's own figures", given, clock, small
        )


def shipped(record: Record, small: bool, clock: Clock) -> None:
    """The shipped model's recipe until the time is up; its newest checkpoint stays beside."""
    given = ["sia_gen.cli", "train", "--recipe", "textures-64"]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "model" if small else Path("runs/gpu-model")
        given += ["--out", str(out), "--checkpoint-every", "2" if small else "500"]
        if small:
            given += ["--preset", "tiny-16", "--resolution", "16", "--steps", "3"]
            given += ["--batch-size", "2", "--health-images", "4", "--warmup", "0"]
            given += ["--finish-from", "0", "--sample-every", "0"]
        failed = command(given, clock.left(), small)
        losses = out / "losses.jsonl"
        lines = losses.read_text(encoding="utf-8").splitlines() if losses.is_file() else []
        record("training of the shipped model", ended=failed or "done", last=lines[-1:])


RUNS: dict[str, Callable[[Record, bool, Clock], None]] = {
    "machine": machine,
    "sampling": sampling,
    "realnet": detectors,
    "redi": redi,
    "diffusion": diffusion,
    "feeding": feeding,
    "shipped": shipped,
}


def run(name: str, record: Record, *, small: bool, deadline: float) -> None:
    """Runs one stage to its end or its deadline and records that it ended by itself."""
    if small:
        torch.set_num_threads(2)
    RUNS[name](record, small, Clock(deadline))
    record("stage ended")
