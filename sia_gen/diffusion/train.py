"""Training of a class-conditional diffusion model on normal images (RealNet, Appendix B).

Batch k of a run - its images, timesteps and noise - is a function of (seed, k, process) alone, so a
run that was killed resumes at its last checkpoint and meets the losses of an uninterrupted one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel

from sia_gen.core.errors import DivergedError, UserError
from sia_gen.core.files import new_folder, read_json, write_json
from sia_gen.core.images import Array8
from sia_gen.core.provenance import hash_options, sha256_file, versions
from sia_gen.core.seeds import derive_seed
from sia_gen.diffusion import checkpoints, health, unet
from sia_gen.diffusion.device import choose_device, choose_precision
from sia_gen.diffusion.generator import load_generator, load_unet
from sia_gen.diffusion.loss import hybrid_loss
from sia_gen.diffusion.model_folder import FACTS, SCHEMA, WEIGHTS, describe
from sia_gen.diffusion.normals import NormalImages, batch_indices, image_channels, read_normals
from sia_gen.diffusion.options import TrainOptions
from sia_gen.diffusion.sampling import to_tensor
from sia_gen.diffusion.schedule import Schedule, respace
from sia_gen.diffusion.scheduler import SDASScheduler

LOG_EVERY = 25


def learning_rate(options: TrainOptions, step: int) -> float:
    """Returns the rate of a step: linear warm-up, then constant, or a cosine to a twentieth."""
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    if not options.decay:
        return options.learning_rate
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.learning_rate * (0.05 + 0.95 * 0.5 * (1.0 + float(np.cos(np.pi * done))))


def memory_estimate(parameters: int, options: TrainOptions, channels: int) -> str:
    """Returns a line with the memory that weights, gradients, Adam and EMA take, in GB."""
    state = parameters * 4 * 5 / 1e9
    images = options.batch_size * options.resolution**2 * channels * 4 * 2 / 1e9
    return (
        f"{parameters / 1e6:.1f} M parameters: {state:.2f} GB for weights, gradients, Adam and EMA,"
        f" {images:.3f} GB a batch of images; activations come on top"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Progress:
    """A line with loss, images/s and time left, at most every ten seconds."""

    def __init__(self, first: int, options: TrainOptions, images_per_step: int) -> None:
        self.first, self.options, self.images = first, options, images_per_step
        self.started = self.spoken = time.monotonic()

    def __call__(self, step: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.spoken < 10 and step + 1 < self.options.steps:
            return
        self.spoken = now
        rate = (step + 1 - self.first) / max(now - self.started, 1e-9)
        left = (self.options.steps - step - 1) / max(rate, 1e-9)
        _say(
            f"step {step + 1}/{self.options.steps}  loss {loss:.4f}"
            f"  {rate * self.images:.1f} images/s  {left / 60:.1f} min left"
        )


class _LossLog:
    """The losses of a run, one JSON line every few steps; a resumed run drops the overlap."""

    def __init__(self, path: Path, first: int) -> None:
        kept: list[str] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= first:
                        kept.append(line)
                except (ValueError, KeyError):
                    continue  # the line that a kill cut off
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")

    def write(self, **values: float) -> None:
        """Appends one line and makes it visible at once."""
        self.file.write(json.dumps(values) + "\n")
        self.file.flush()


def _new_network(options: TrainOptions, normals: NormalImages, channels: int) -> tuple[Any, int]:
    if options.init:
        facts = describe(Path(options.init))
        if (facts.channels, facts.classes) != (channels, normals.classes):
            raise UserError(
                f"init {options.init} knows {len(facts.classes)} classes and {facts.channels}"
                f" channels, the data {len(normals.classes)} and {channels}: they must agree"
            )
        return load_unet(facts.folder), facts.patch
    shape = unet.preset(options.preset)
    torch.manual_seed(derive_seed(options.seed, "weights"))
    configuration = unet.configuration(
        shape, channels=channels, classes=len(normals.classes), resolution=options.resolution
    )
    return UNet2DModel(**configuration), shape.patch


def _refuse_other_run(out: Path, options: TrainOptions) -> None:
    previous = out / "train.json"
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
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"output {out} exists and is no training run: give a new folder")


def train(options: TrainOptions) -> Path:
    """Trains a model and returns its folder, `out`/model; run again, it resumes or is done."""
    out = Path(options.out)
    _refuse_other_run(out, options)
    finished = out / "model" / FACTS
    if finished.exists():
        _say(f"{out} is finished: {options.steps} steps")
        return finished.parent
    normals = read_normals(options)
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    channels = image_channels(options, normals)
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision, cpu=device.type == "cpu"
    )
    network, patch = _new_network(options, normals, channels)
    if options.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    main = accelerator.is_main_process
    if main:
        _say(memory_estimate(sum(p.numel() for p in network.parameters()), options, channels))
        write_json(out / "train.json", {"options": asdict(options), "identity": options.identity()})
    accelerator.wait_for_everyone()
    losses = _Loop(options, normals, accelerator, network, patch, channels).run()
    if main:
        _publish(options, normals, accelerator, losses, patch, channels)
    accelerator.wait_for_everyone()
    return out / "model"


class _Loop:
    """The steps of a run, from its newest checkpoint on."""

    def __init__(
        self,
        options: TrainOptions,
        normals: NormalImages,
        accelerator: Accelerator,
        network: Any,
        patch: int,
        channels: int,
    ) -> None:
        self.options, self.normals, self.accelerator = options, normals, accelerator
        self.folder = Path(options.out) / "checkpoints"
        self.channels = channels
        self.scheduler = SDASScheduler()
        self.full = self.scheduler.full
        self.sampling = respace(self.full, options.finish_steps)
        self.ema = EMAModel(network.parameters(), decay=options.ema, use_ema_warmup=False)
        optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
        self.network = network
        model = unet.Denoiser(network.to(memory_format=torch.channels_last), patch)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.ema.to(accelerator.device)
        self.seconds = 0.0

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def _resume(self) -> int:
        state = checkpoints.load_newest(self.folder)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.accelerator.device)
        self.seconds = float(state["seconds"])
        _say(f"resuming at step {state['step']}")
        return int(state["step"])

    def _chain(self, step: int) -> Schedule:
        """Returns the chain whose steps a training step draws: the full one, or the sampler's."""
        finishing = 0 < self.options.finish_from <= step
        return self.sampling if finishing else self.full

    def _micro_batches(self, step: int) -> Iterator[tuple[torch.Tensor, ...]]:
        options, normals, rank = self.options, self.normals, self.accelerator.process_index
        world = self.accelerator.num_processes
        for micro in range(options.accumulate):
            k = (step * options.accumulate + micro) * world + rank
            chosen = batch_indices(len(normals.images), options.batch_size, options.seed, k)
            random = torch.Generator().manual_seed(derive_seed(options.seed, "step", k))
            x_0 = to_tensor(normals.images[chosen], self.channels)
            steps = len(self._chain(step).betas)
            i = torch.randint(0, steps, (len(chosen),), generator=random)
            noise = torch.randn(x_0.shape, generator=random)
            labels = torch.from_numpy(normals.labels[chosen])
            yield tuple(v.to(self.accelerator.device) for v in (x_0, i, noise, labels))

    def _step(self, step: int) -> dict[str, float]:
        rate = learning_rate(self.options, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        totals = {"loss": 0.0, "mse": 0.0, "vb": 0.0}
        chain = self._chain(step)
        timesteps = torch.from_numpy(chain.timesteps).to(self.accelerator.device)
        for x_0, i, noise, labels in self._micro_batches(step):
            t = timesteps[i]
            x_t = self.scheduler.add_noise(x_0, noise, t)
            with self.accelerator.autocast():
                output = self.model(x_t.contiguous(memory_format=torch.channels_last), t, labels)
            terms = hybrid_loss(chain, output, x_0, x_t, noise, i, self.options.prediction)
            loss = terms.total.mean()
            self.accelerator.backward(loss / self.options.accumulate)
            for name, value in (("loss", loss), ("mse", terms.mse), ("vb", terms.vb_bits_per_dim)):
                totals[name] += float(value.detach().mean()) / self.options.accumulate
        bad = torch.tensor(float(not np.isfinite(totals["loss"])), device=self.accelerator.device)
        if float(self.accelerator.reduce(bad, "sum")) > 0:
            raise DivergedError(
                f"the loss became {totals['loss']} at step {step + 1}: the last checkpoint in"
                f" {self.folder} is kept; try a smaller --learning-rate or --precision fp32"
            )
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.network.parameters())
        return totals | {"learning_rate": rate}

    def run(self) -> dict[str, Any]:
        """Runs the remaining steps; afterwards the network holds the averaged weights."""
        options, accelerator = self.options, self.accelerator
        first = self._resume()
        per_step = options.batch_size * options.accumulate * accelerator.num_processes
        progress = _Progress(first, options, per_step)
        log = _LossLog(Path(options.out) / "losses.jsonl", first)
        since, window = time.monotonic(), []
        for step in range(first, options.steps):
            figures = self._step(step)
            window.append(figures["loss"])
            progress(step, float(np.mean(window[-100:])))
            last = step + 1 == options.steps
            if accelerator.is_main_process and ((step + 1) % LOG_EVERY == 0 or last):
                log.write(step=step + 1, **figures)
            if (step + 1) % options.checkpoint_every == 0 or last:
                now = time.monotonic()
                self.seconds, since = self.seconds + now - since, now
                if accelerator.is_main_process:
                    checkpoints.save(self.folder, step + 1, self._state(step + 1), options.keep)
                    if options.sample_every and (step + 1) % options.sample_every == 0:
                        self._sample_grid(step + 1)
                accelerator.wait_for_everyone()
        self.ema.copy_to(self.network.parameters())
        return {
            "network": self.network,
            "seconds": self.seconds,
            "final_loss": float(np.mean(window[-100:])) if window else None,
        }

    def _sample_grid(self, step: int) -> None:
        from sia_gen.diffusion.grids import write_sample_grid

        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        path = Path(self.options.out) / "samples" / f"step-{step:07}.png"
        denoiser = self.accelerator.unwrap_model(self.model)
        write_sample_grid(path, denoiser, self.options, self.channels, len(self.normals.classes))
        self.ema.restore(self.network.parameters())


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
        network.save_pretrained(str(folder / "unet"))
        SDASScheduler(prediction_type=options.prediction).save_pretrained(str(folder / "scheduler"))
        facts: dict[str, Any] = {
            "schema": SCHEMA,
            "dataset": normals.dataset,
            "classes": list(normals.classes),
            "resolution": options.resolution,
            "channels": channels,
            "patch": patch,
            "sampling_steps": options.finish_steps if options.finish_from else 0,
            "checkpoint_sha256": sha256_file(folder / WEIGHTS),
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
    _say("measuring the model's health")
    facts["health"] = measure_health(out / "unmeasured", options, normals)
    write_json(out / "unmeasured" / FACTS, facts)
    (out / "unmeasured").rename(out / "model")
    verdict = "passed" if facts["health"]["passed"] else "failed"
    worst = facts["health"]["worst_relative"]
    _say(f"health {verdict}: worst relative KID {worst:.3f} (below 1 passes)")


def measure_health(model: Path, options: TrainOptions, normals: NormalImages) -> dict[str, Any]:
    """Returns the model's health on held-out normal images (see health.py)."""
    generate = load_generator(
        model, device=options.device, precision=options.precision, steps=options.sampling_steps
    )
    samples: dict[str, Array8] = {}
    train: dict[str, Array8] = {}
    for label, name in enumerate(normals.classes):
        seeds = [derive_seed("health", options.seed, name, i) for i in range(options.health_images)]
        made = [
            generate.images(name, seeds[i : i + 16], [0.0] * len(seeds[i : i + 16]))
            for i in range(0, len(seeds), 16)
        ]
        samples[name] = np.concatenate(made)
        train[name] = normals.images[normals.labels == label]
    return health.measure(samples, train, normals.held_out)
