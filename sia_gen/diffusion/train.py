"""Training of a class-conditional diffusion model on normal images (RealNet, Appendix B)."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel

from sia_gen.compute import trackers
from sia_gen.compute.device import choose_device, choose_precision
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8
from sia_gen.core.provenance import hash_options, sha256_file, versions
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.files import new_folder, read_json, write_json
from sia_gen.core.store.held import held
from sia_gen.core.store.objects import require_local
from sia_gen.diffusion import health, memory, unet
from sia_gen.diffusion.generator import load_generator, load_unet
from sia_gen.diffusion.look import next_step, verdict
from sia_gen.diffusion.loop import Loop, say
from sia_gen.diffusion.model_folder import FACTS, SCHEMA, WEIGHTS, describe
from sia_gen.diffusion.normals import NormalImages, image_channels, read_normals
from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.quick import quicken
from sia_gen.diffusion.scheduler import SDASScheduler


def _new_network(options: TrainOptions, normals: NormalImages, channels: int) -> tuple[Any, int]:
    if options.init:
        facts = describe(Path(options.init))
        if (facts.channels, facts.classes) != (channels, normals.classes):
            raise UserError(
                f"init {options.init} knows {len(facts.classes)} classes and {facts.channels}"
                f" channels, the data {len(normals.classes)} and {channels}: they must agree"
            )
        found = SDASScheduler.from_pretrained(str(facts.folder), subfolder="scheduler").config
        if found.prediction_type != options.prediction:
            raise UserError(
                f"init {options.init} predicts {found.prediction_type}, the run"
                f" {options.prediction}: give --prediction {found.prediction_type}"
            )
        network = load_unet(facts.folder)
        _require_divisible(network, facts.patch, options)
        return network, facts.patch
    shape = unet.preset(options.preset)
    torch.manual_seed(derive_seed(options.seed, "weights"))
    configuration = unet.configuration(
        shape, channels=channels, classes=len(normals.classes), resolution=options.resolution
    )
    return UNet2DModel(**configuration), shape.patch


def _require_divisible(network: Any, patch: int, options: TrainOptions) -> None:
    factor = patch * 2 ** (len(network.config.block_out_channels) - 1)
    if options.resolution % factor:
        raise UserError(
            f"resolution {options.resolution} is not a multiple of {factor}, as the network of"
            f" {options.init} needs"
        )


def _refuse_other_run(out: Path, options: TrainOptions) -> None:
    previous = out / "train.json"
    made = (out / "model").exists() or any((out / "checkpoints").glob("step-*"))
    if previous.exists() and not made:
        return  # nothing was made yet, which binds nobody
    if previous.exists():
        before, now = read_json(previous)["identity"], options.identity()
        changed = [
            f"{name}: {before.get(name)!r} before, {now.get(name)!r} now"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise UserError(
                f"{out} belongs to another training run; {'; '.join(changed)}. Give another --out,"
                " or the options of before"
            )
    elif out.exists() and (not out.is_dir() or any(p.name[0] != "." for p in out.iterdir())):
        raise UserError(f"output {out} exists and is no training run: give a new folder")


def train(options: TrainOptions) -> Path:
    """Trains a model and returns its folder, `out`/model; run again, it resumes or is done."""
    out = require_local(options.out, "--out")
    _refuse_other_run(out, options)
    finished = out / "model" / FACTS
    if finished.exists():
        say(f"{out} is finished: {options.steps} steps")
        return finished.parent
    normals = read_normals(options)
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    channels = image_channels(options, normals)
    accelerator = trackers.accelerator_for(str(device), precision, options.report_to, out)
    network, patch = _new_network(options, normals, channels)
    if options.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    if device.type == "cpu" and precision != "fp32":
        quicken(network)
    main = accelerator.is_main_process
    if main:
        needed = memory.estimate(network, patch, channels, options, precision)
        say(needed.text(memory.free_memory(device)))
    with held(out) if main else nullcontext():
        _refuse_other_run(out, options)  # asked again: another one may have begun meanwhile
        if main:
            about = {"options": asdict(options), "identity": options.identity()}
            write_json(out / "train.json", about)
        accelerator.wait_for_everyone()
        trackers.begin(accelerator, out.name or "run", asdict(options))
        try:
            losses = Loop(options, normals, accelerator, network, patch, channels).run()
        finally:
            trackers.end(accelerator)
        if main:
            _publish(options, normals, accelerator, losses, patch, channels)
        accelerator.wait_for_everyone()
    return out / "model"


def _loss_curve(path: Path, points: int = 60) -> list[dict[str, float]]:
    """Returns the logged losses averaged into at most `points` points."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not rows:
        return []
    parts = np.array_split(np.arange(len(rows)), min(points, len(rows)))
    return [
        {
            "step": rows[part[-1]]["step"],
            "loss": round(float(np.mean([rows[i]["loss"] for i in part])), 5),
            "mse": round(float(np.mean([rows[i]["mse"] for i in part])), 5),
        }
        for part in parts
    ]


def _publish(
    options: TrainOptions,
    normals: NormalImages,
    accelerator: Accelerator,
    result: dict[str, Any],
    patch: int,
    channels: int,
) -> None:
    """Writes the finished model folder, measures its health, and adds it to its facts."""
    out = Path(options.out)
    network = result["network"].to(memory_format=torch.contiguous_format).cpu()
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    with new_folder(out / "unmeasured") as folder:
        for parameter in network.parameters():
            parameter.data = parameter.data.to(dtype[options.save_precision])
        # Where an initial model lay is of no meaning elsewhere.
        network.register_to_config(_name_or_path="")
        network.save_pretrained(str(folder / "unet"))
        SDASScheduler(
            prediction_type=options.prediction, timestep_spacing=options.spacing
        ).save_pretrained(str(folder / "scheduler"))
        facts: dict[str, Any] = {
            "schema": SCHEMA,
            "dataset": normals.dataset,
            "classes": list(normals.classes),
            "resolution": options.resolution,
            "channels": channels,
            "patch": patch,
            "sampler": options.sampler,
            "even_phases": options.even_phases,
            "sampling_steps": options.finish_steps if options.finish_from else 0,
            "checkpoint_sha256": sha256_file(folder / WEIGHTS),
            **({"value_ranges": normals.value_ranges} if normals.value_ranges else {}),
            "training": {
                # Where it was written is of no meaning elsewhere.
                "options": {k: v for k, v in asdict(options).items() if k != "out"},
                "options_hash": hash_options(options.identity()),
                "images": len(normals.images),
                "processes": accelerator.num_processes,
                "seconds": round(result["seconds"], 1),
                "losses": _loss_curve(out / "losses.jsonl"),
                "versions": versions("torch", "diffusers", "accelerate"),
            },
        }
        write_json(folder / FACTS, facts)
    say("measuring the model's health")
    facts["health"] = measure_health(out / "unmeasured", options, normals)
    write_json(out / "unmeasured" / FACTS, facts)
    (out / "unmeasured").rename(out / "model")
    say(f"health {verdict(facts['health'])}")
    say(next_step(facts["health"], out / "model", options.data, options.steps))


def measure_health(model: Path, options: TrainOptions, normals: NormalImages) -> dict[str, Any]:
    """Returns the model's health on held-out normal images (see health.py)."""
    generate = load_generator(
        model,
        device=options.device,
        precision=options.precision,
        steps=options.sampling_steps,
        sampler=options.sampler,
    )
    samples: dict[str, Array8] = {}
    for name in normals.classes:
        seeds = [derive_seed("health", options.seed, name, i) for i in range(options.health_images)]
        made = [
            generate.images(name, seeds[i : i + 16], [0.0] * len(seeds[i : i + 16]))
            for i in range(0, len(seeds), 16)
        ]
        samples[name] = np.concatenate(made)
    found = health.measure(samples, normals.train(), normals.held_out)
    return {**found, "sampler": options.sampler}
