"""The training loop: stages of steps, one look at the loss for all ranks, states to go on from."""

from __future__ import annotations

import copy
import dataclasses
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detector import checkpoint
from detector import run_folder as runfolder
from detector.data.batches import Batch, Batches
from detector.model import Detector, Stage
from detector.options import LOOK, TrainOptions
from detector.training.constants import Constants
from detector.training.objective import Objective, learn
from sia_gen.compute import trackers
from sia_gen.core.errors import DivergedError, UserError
from sia_gen.core.pixels.images import Array8
from sia_gen.core.progress import Progress
from sia_gen.core.signals import StopFlag

TRIAL = 12  # steps that measure the speed for a budget, at most all there are
LOOKS = 20  # at the model in a whole training where a protocol chooses among its steps


class StoppedTrainingError(Exception):
    """A signal ended the training; its state was saved."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class Loop:
    """Runs all stages of one training; `facts` tells how far it is and what it measured."""

    def __init__(
        self,
        options: TrainOptions,
        key: str,
        batches: Batches,
        model: Detector,
        folder: Path,
        accelerator: Any,
        look: Callable[[Detector], float] | None = None,
        stop: StopFlag | None = None,
        keep: Callable[[Detector, dict[str, Any]], None] | None = None,
        show: Callable[[Detector], dict[str, Array8]] | None = None,
    ) -> None:
        """Takes what judges the model while it trains; without, the last weights are kept.

        `keep` publishes a step in between, where the options ask for some; `show` draws pictures
        for the tracker.
        """
        self._stop = stop or StopFlag()
        self.options, self.key, self.batches, self.model = options, key, batches, model
        self.folder, self.accelerator = folder, accelerator
        self.stages = model.stages(options, len(batches.normals))
        self.total = sum(stage.steps for stage in self.stages)
        self.facts: dict[str, Any] = {"step": 0, "seconds": 0.0, "curve": [], "parts": {}}
        self.facts |= {"cpu_seconds": 0.0, "total": self.total, "grown": [], "speed": None}
        self.parameters = sum(p.numel() for p in _parameters(*self.stages))
        self._clock = self._saved = self._began = time.monotonic()
        self._cpu = time.process_time()
        self._loaded: dict[str, Any] = {}
        self._judge, self._keep, self._best = look, keep, dict[str, Tensor]()
        self._show = show
        self._every = options.look_every or -(-self.stages[-1].steps // LOOKS)
        self._every = -(-self._every // LOOK) * LOOK
        self.facts["chosen"] = {"rule": options.protocol, "step": 0, "merit": None, "looks": []}
        if (options.budget_minutes or options.keep_every) and len(self.stages) > 1:
            raise UserError(
                f"model {options.model} trains in {len(self.stages)} stages: give it --steps or"
                " --epochs, without --budget and --keep-every"
            )
        if options.batch_size < accelerator.num_processes:
            raise UserError(
                f"batch_size {options.batch_size} cannot be shared by"
                f" {accelerator.num_processes} processes: give a larger --batch-size, or fewer of"
                " them"
            )

    def resume(self, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
        """Takes over a saved state."""
        self.model.load_state_dict(tensors["model"])
        self.facts, self._loaded, self._best = facts, tensors, tensors["best"]
        if self.options.budget_minutes and facts["speed"]:
            self._plan(int(facts["speed"]["steps"]))
        planned = int(facts.get("total", self.total))
        if self.total > planned:
            facts["grown"].append([int(facts["step"]), planned, self.total])
        facts["total"] = self.total

    def run(self) -> None:
        """Trains to the last step."""
        first = 0
        progress = Progress(
            f"{self.key} {self.options.source}",
            self.total,
            first=self.facts["step"],
            each=self.options.each,
            things="pairs",
            shown=self.accelerator.is_main_process,
        )
        for stage in self.stages:
            if self.facts["step"] < first + stage.steps and not self._is_enough():
                self._stage(stage, first, progress)
            first += stage.steps
        progress.close()
        self._check_weights()
        if self._judge is None:
            self.facts["chosen"]["step"] = self.facts["step"]
        elif self._best:
            self.model.load_state_dict(self._best)

    def _stage(self, stage: Stage, first: int, progress: Progress) -> None:
        model, accelerator = self.model, self.accelerator
        model.requires_grad_(False).eval()
        trained = _parameters(stage)
        for parameter in trained:
            parameter.requires_grad_(True)
        constants = Constants(
            model, stage.name, self.batches.normals, int(self.options.cache_gib * 2**30),
            accelerator,
        )  # fmt: skip
        objective, optimizer = accelerator.prepare(
            Objective(model, stage.name), stage.optimizer(trained)
        )
        # In the middle of this stage its optimiser was saved; a finished training kept none.
        if self.facts["step"] > first and "optimizer" in self._loaded:
            optimizer.load_state_dict(self._loaded["optimizer"])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(self._loaded["scaler"])
        for module in stage.trained:
            module.train()
        if self.options.budget_minutes and self.facts["speed"] is None:
            self._plan(self._affordable(objective, optimizer, constants))
            stage, progress.total = self.stages[-1], self.total
        window: list[Tensor] = [] if self.facts["step"] == first else self._window()
        last = first + stage.steps
        ranks = accelerator.num_processes
        stream = self._grouped(self.facts["step"], last, accelerator.process_index, ranks)
        for step, batches in enumerate(stream, start=self.facts["step"] + 1):
            for group in optimizer.param_groups:
                group["lr"] = stage.rate(step - 1 - first)
            whole = self.options.batch_size
            window.append(self._learn(objective, optimizer, batches, constants, whole))
            if step % LOOK and step != last:
                if ranks == 1 and self._stop.is_set():
                    self._pass_time(step)
                    self._save(step, optimizer, window)
                    raise self._stopped(step)
                continue
            names = accelerator.unwrap_model(objective).names
            self.facts["parts"][stage.name] = names
            self._check_loss(step, torch.stack(window).mean(dim=0), progress)
            self._report(step, names, stage.rate(step - 1 - first))
            window = []
            if not (step - first) % self._every or step == last:
                if stage is self.stages[-1]:
                    self._compare(step, stage)
                self._picture(step, stage)
            self._keep_if_due(step, stage)
            self._save_if_due(step, optimizer)
            if self._is_enough():
                break

    def _learn(
        self,
        objective: nn.Module,
        optimizer: Any,
        batches: Sequence[Batch],
        constants: Constants,
        whole: int,
    ) -> Tensor:
        clip = self.options.gradient_clip
        return learn(
            self.accelerator, objective, optimizer, batches, constants, whole=whole, clip=clip
        )

    def _grouped(self, first: int, last: int, rank: int, ranks: int) -> Iterator[tuple[Batch, ...]]:
        """Yields the batches of each of the steps first + 1 .. last."""
        each = self.options.accumulate
        stream = self.batches.stream(first * each, last * each, rank, ranks)
        return zip(*[stream] * each, strict=True)

    def _affordable(self, objective: nn.Module, optimizer: Any, constants: Constants) -> int:
        """Returns how many steps fit into the budget, by steps that are taken back again."""
        before = copy.deepcopy([self.model.state_dict(), optimizer.state_dict()])
        times = []
        whole = self.options.batch_size * self.accelerator.num_processes  # each takes all of it
        for batches in self._grouped(0, TRIAL, 0, 1):
            began = time.monotonic()
            self._learn(objective, optimizer, batches, constants, whole)
            if self.accelerator.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.monotonic() - began)
        self.model.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
        each = statistics.median(times[TRIAL // 4 :])  # the first ones choose kernels
        left = 60 * self.options.budget_minutes - (time.monotonic() - self._began)
        found = torch.tensor(left / each, device=self.accelerator.device)
        steps = max(LOOK, int(self.accelerator.reduce(found, "mean")))
        self.facts["speed"] = {"seconds_per_step": round(each, 4), "steps": steps}
        return steps

    def _plan(self, steps: int) -> None:
        """Makes the training `steps` steps long."""
        self.options = dataclasses.replace(self.options, steps=steps, budget_minutes=0.0)
        self.stages = self.model.stages(self.options, len(self.batches.normals))
        self.facts["total"] = self.total = steps

    def _keep_if_due(self, step: int, stage: Stage) -> None:
        every = self.options.keep_every
        if self._keep is None or not every or step % every or step == self.total:
            return
        if self.accelerator.is_main_process:
            self.model.eval()
            self._keep(self.model, self.facts)
            for module in stage.trained:
                module.train()
        self.accelerator.wait_for_everyone()

    def _check_loss(self, step: int, means: Tensor, progress: Progress) -> None:
        # Once for all ranks: a loss that is not finite anywhere stops everyone together.
        values = self.accelerator.reduce(means, "mean").tolist()
        if not np.isfinite(values).all():
            raise self._diverged(step, f"the loss is {sum(values)}")
        self.facts["curve"].append([step, *(round(v, 6) for v in values)])
        progress.update(step, loss=sum(values))
        self._pass_time(step)

    def _report(self, step: int, names: list[str], rate: float) -> None:
        values = dict(zip(names, self.facts["curve"][-1][1:], strict=True))
        told = {f"loss/{name}": value for name, value in values.items()}
        speed = self.options.batch_size * step / max(self.facts["seconds"], 1e-9)
        told |= {"loss": sum(values.values()), "learning_rate": rate, "pairs_per_second": speed}
        self.accelerator.log(told, step=step)

    def _pass_time(self, step: int) -> None:
        now = time.monotonic()
        self.facts["seconds"] += now - self._clock
        self.facts["cpu_seconds"] += time.process_time() - self._cpu
        self._clock, self._cpu = now, time.process_time()
        self.facts["step"] = step

    def _compare(self, step: int, stage: Stage) -> None:
        if self._judge is None:
            return
        value = 0.0
        if self.accelerator.is_main_process:
            self.model.eval()
            value = self._judge(self.model)
            for module in stage.trained:
                module.train()
        found = torch.tensor(value, device=self.accelerator.device, dtype=torch.float32)
        value = float(self.accelerator.reduce(found, "sum"))
        chosen = self.facts["chosen"]
        chosen["looks"].append([step, round(value, 6)])
        self.accelerator.log({"held_out_merit": value}, step=step)
        if chosen["merit"] is None or value > chosen["merit"]:
            chosen["step"], chosen["merit"] = step, value
            state = self.model.state_dict()
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def _picture(self, step: int, stage: Stage) -> None:
        if self._show is None or not self.accelerator.is_main_process:
            return
        self.model.eval()
        for name, picture in self._show(self.model).items():
            trackers.picture(self.accelerator, name, picture, step)
        for module in stage.trained:
            module.train()

    def _is_enough(self) -> bool:
        """Returns whether the last `patience` looks were none better than one before them."""
        chosen, patience = self.facts["chosen"], self.options.patience
        since = sum(step > chosen["step"] for step, _ in chosen["looks"])
        return self._judge is not None and 0 < patience <= since

    def _save_if_due(self, step: int, optimizer: Any) -> None:
        late = time.monotonic() - self._saved >= self.options.checkpoint_seconds
        asked = torch.tensor(
            [float(late), float(self._stop.is_set())], device=self.accelerator.device
        )
        due, stop = self.accelerator.reduce(asked, "sum").tolist()  # all ranks stop together
        if step == self.total or not (due or stop):
            return
        self._save(step, optimizer, [])
        if stop:
            raise self._stopped(step)

    def _save(self, step: int, optimizer: Any, window: list[Tensor]) -> None:
        self._check_weights()
        if self.accelerator.is_main_process:
            tensors = {"model": self.model.state_dict(), "optimizer": optimizer.state_dict()}
            tensors["best"] = self._best
            tensors["window"] = window  # losses since the last look at them
            if self.accelerator.scaler is not None:
                tensors["scaler"] = self.accelerator.scaler.state_dict()
            checkpoint.save_state(self.folder, step, tensors, self.facts)
        self._saved = time.monotonic()

    def _window(self) -> list[Tensor]:
        saved: list[Tensor] = self._loaded.get("window", [])
        return [losses.to(self.accelerator.device) for losses in saved]

    def _stopped(self, step: int) -> StoppedTrainingError:
        number = self._stop.signal or signal.SIGTERM
        return StoppedTrainingError(
            number,
            f"{self.key}: stopped by {signal.Signals(number).name} after step {step} of"
            f" {self.total}; the state is kept in {self.folder / runfolder.STATE}: run the same"
            " command again to go on",
        )

    def _check_weights(self) -> None:
        broken = checkpoint.nonfinite(self.model.state_dict())
        found = torch.tensor(float(len(broken)), device=self.accelerator.device)
        if bool(self.accelerator.reduce(found, "sum") > 0):
            what = broken[0] if broken else "a tensor of another rank"
            raise self._diverged(self.facts["step"], f"{what} holds NaN or infinite values")

    def _diverged(self, step: int, what: str) -> DivergedError:
        states = sorted((self.folder / runfolder.STATE).glob("step-*"))
        kept = (
            f"the last good state is kept in {states[-1]}" if states else "no state was saved yet"
        )
        return DivergedError(
            f"training diverged at step {step}: {what}; {kept}. Give a lower --learning-rate, or"
            " --precision fp32"
        )


def _parameters(*stages: Stage) -> list[nn.Parameter]:
    found: dict[int, nn.Parameter] = {}
    for stage in stages:
        for module in stage.trained:
            found |= {id(p): p for p in module.parameters()}
    return list(found.values())
