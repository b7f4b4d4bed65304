"""The steps of a training run, from its newest checkpoint on.

Batch k of a run - its images, timesteps and noise - is a function of (seed, k) alone, k counting
micro-batches over all processes: a run that was killed resumes at its last checkpoint and meets the
losses of an uninterrupted one, and two processes step as one that accumulates two batches.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from sia_gen.compute import trackers
from sia_gen.core.errors import DivergedError, StoppedError, UserError
from sia_gen.core.log import say
from sia_gen.core.progress import Progress
from sia_gen.core.seeds import derive_seed
from sia_gen.core.signals import StopFlag
from sia_gen.diffusion import checkpoints, unet
from sia_gen.diffusion.look import Look, verdict
from sia_gen.diffusion.loss import hybrid_loss
from sia_gen.diffusion.normals import NormalImages, batch_indices
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


class Loop:
    """The steps of a run; afterwards the network holds the averaged weights."""

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
        self.sampling = respace(self.full, options.finish_steps, options.spacing)
        self.ema = EMAModel(network.parameters(), decay=options.ema, use_ema_warmup=False)
        optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
        self.network = network
        model = unet.Denoiser(network.to(memory_format=torch.channels_last), patch)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.ema.to(accelerator.device)
        self.look = Look(options, normals, channels)
        self.seconds = 0.0

    def _state(self, step: int) -> dict[str, Any]:
        scaler = self.accelerator.scaler  # of fp16
        return {
            **({"scaler": scaler.state_dict()} if scaler is not None else {}),
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
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            what = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.folder}: the newest state is of another training ({what}): give another"
                " --out, or remove it to train from the start"
            ) from error
        self.ema.to(self.accelerator.device)
        self.seconds = float(state["seconds"])
        say(f"resuming at step {state['step']}")
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
        for micro, (x_0, i, noise, labels) in enumerate(self._micro_batches(step)):
            t = timesteps[i]
            x_t = self.scheduler.add_noise(x_0, noise, t)
            # Gradients travel between processes with a step's last batch only.
            last = micro + 1 == self.options.accumulate
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    x_t = x_t.contiguous(memory_format=torch.channels_last)
                    output = self.model(x_t, t, labels)
                terms = hybrid_loss(chain, output, x_0, x_t, noise, i, self.options.prediction)
                loss = terms.total.mean()
                self.accelerator.backward(loss / self.options.accumulate)
            for name, value in (("loss", loss), ("mse", terms.mse), ("vb", terms.vb_bits_per_dim)):
                totals[name] += float(value.detach().mean()) / self.options.accumulate
        totals = self._mean_of_processes(totals)
        # A NaN of one process is everybody's now: all of them stop at the same step.
        if not np.isfinite(totals["loss"]):
            raise DivergedError(
                f"the loss became {totals['loss']} at step {step + 1}: the last checkpoint in"
                f" {self.folder} is kept; try a smaller --learning-rate or --precision fp32"
            )
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.network.parameters())
        return totals | {"learning_rate": rate}

    def _mean_of_processes(self, values: dict[str, float]) -> dict[str, float]:
        if self.accelerator.num_processes == 1:
            return values
        mine = torch.tensor(
            list(values.values()), dtype=torch.float32, device=self.accelerator.device
        )
        mean = self.accelerator.reduce(mine, "mean").tolist()
        return dict(zip(values, mean, strict=True))

    def _is_told_to_stop(self, step: int, stop: StopFlag) -> bool:
        """Returns whether to stop after a step: all processes together, at a step that is logged.

        One alone needs to ask nobody.
        """
        if self.accelerator.num_processes == 1:
            return stop.is_set()
        if (step + 1) % LOG_EVERY:
            return False
        return self._mean_of_processes({"stop": float(stop.is_set())})["stop"] > 0

    def run(self) -> dict[str, Any]:
        """Runs the remaining steps; afterwards the network holds the averaged weights.

        StoppedError after a signal: the state is saved, and the same command goes on.
        """
        stop = StopFlag()
        stop.install()
        try:
            return self._run(stop)
        finally:
            stop.restore()

    def _run(self, stop: StopFlag) -> dict[str, Any]:
        options, accelerator = self.options, self.accelerator
        first = self._resume()
        per_step = options.batch_size * options.accumulate * accelerator.num_processes
        progress = Progress(
            "training", options.steps, first=first, each=per_step, shown=accelerator.is_main_process
        )
        log = _LossLog(Path(options.out) / "losses.jsonl", first)
        since, window = time.monotonic(), []
        for step in range(first, options.steps):
            figures = self._step(step)
            window.append(figures["loss"])
            progress.update(step + 1, loss=float(np.mean(window[-100:])))
            last = step + 1 == options.steps
            if accelerator.is_main_process and ((step + 1) % LOG_EVERY == 0 or last):
                log.write(step=step + 1, **figures)
                accelerator.log(figures, step=step + 1)
            stopped = self._is_told_to_stop(step, stop) and not last
            if (step + 1) % options.checkpoint_every == 0 or last or stopped:
                now = time.monotonic()
                self.seconds, since = self.seconds + now - since, now
                if accelerator.is_main_process:
                    checkpoints.save(self.folder, step + 1, self._state(step + 1), options.keep)
                accelerator.wait_for_everyone()
            if stopped:
                raise StoppedError(
                    stop.signal or signal.SIGTERM,
                    f"stopped by a signal after step {step + 1} of {options.steps}: the state is"
                    f" kept in {self.folder}; run the same command again to go on",
                )
            if options.sample_every and (step + 1) % options.sample_every == 0:
                if accelerator.is_main_process:
                    self._look(step + 1)
                accelerator.wait_for_everyone()
        progress.close()
        self.ema.copy_to(self.network.parameters())
        return {
            "network": self.network,
            "seconds": self.seconds,
            "final_loss": float(np.mean(window[-100:])) if window else None,
        }

    def _look(self, step: int) -> None:
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        denoiser = self.accelerator.unwrap_model(self.model)
        found = self.look(step, denoiser)
        self.ema.restore(self.network.parameters())
        say(f"step {step}: health {verdict(found)}")
        numbers = {k: v for k, v in found.items() if isinstance(v, float)}
        self.accelerator.log({f"health/{k}": v for k, v in numbers.items()}, step=step)
        if self.look.sheet is not None:
            trackers.picture(self.accelerator, "samples", self.look.sheet, step)
