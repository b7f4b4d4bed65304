"""Training one detector: batches are functions of (seed, step), so it can be resumed anywhere.

Nothing draws from a running random state, so position, weights and optimiser are the whole state:
a training killed at any moment and started again ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector import checkpoint, models
from detector import run_folder as runfolder
from detector.data.batches import Batches
from detector.data.crops import normal_images
from detector.data.normals import NormalImages
from detector.data.source import training_sources
from detector.data.task import Task
from detector.engine import score_files
from detector.frame import Frame
from detector.model import Detector, TrainingSet
from detector.options import TrainOptions, model_options
from detector.training import advice
from detector.training.constants import PASS, to_tensor
from detector.training.loop import Loop
from detector.training.pictures import pictures
from detector.training.selection import calibration, check, looker
from sia_gen.compute import trackers
from sia_gen.compute.trackers import accelerator_for
from sia_gen.core import memory
from sia_gen.core.errors import UserError
from sia_gen.core.log import say
from sia_gen.core.pixels.images import read_size
from sia_gen.core.plugins import load as load_plugin
from sia_gen.core.progress import counted
from sia_gen.core.signals import StopFlag

__all__ = ["accelerator_for", "train", "training_set"]


@dataclass(frozen=True)
class _Repeated:
    """An iterable that starts anew at each iteration."""

    make: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.make()


def training_set(
    batches: Batches, count: int, device: torch.device, *, shown: bool = False
) -> TrainingSet:
    """Returns what a model's `prepare` may look at: all normal images, `count` batches of pairs."""
    normals = batches.normals

    def images() -> Iterator[Tensor]:
        starts = range(0, len(normals), PASS)
        label = f"preparation: {len(normals)} normal images, by {PASS}"
        for start in counted(starts, len(starts), label, shown=shown):
            index = torch.arange(start, min(start + PASS, len(normals))).numpy()
            yield to_tensor(normals.stack(index), device)

    def pairs() -> Iterator[tuple[Tensor, ...]]:
        label = "preparation: batches of pairs that choose channels"
        for step in counted(range(count), count, label, shown=shown):
            batch = batches.anomalous(step)
            mask = torch.from_numpy(batch.masks).to(device)[:, None]
            normal = normals.stack(batch.normal)
            yield to_tensor(batch.images, device), to_tensor(normal, device), mask

    return TrainingSet(images=len(normals), normal=_Repeated(images), pairs=_Repeated(pairs))


def train(
    options: TrainOptions,
    task: Task,
    run: Path,
    accelerator: Any,
    stop: StopFlag | None = None,
) -> dict[str, Any]:
    """Trains one detector to its last step and returns the facts of its checkpoint.

    A finished one is read back, or goes on where more steps are asked of it; one that was killed
    goes on where its last state stands. Where `stop` is set meanwhile, the state is saved and
    StoppedTrainingError raised.
    """
    folder = runfolder.folder_of(run, task)
    check(options, task)
    document = runfolder.describe(options, task)
    claim = runfolder.check_claim(folder, document)
    if claim == "finished":
        return checkpoint.read_facts(folder)
    plugin = load_plugin(models, options.model)
    inner = model_options(plugin.Options, options.options)
    if claim == "growing" and (folder / runfolder.DOCUMENT).is_file():
        if accelerator.is_main_process:
            checkpoint.reopen(folder)
        accelerator.wait_for_everyone()
    state = checkpoint.load_state(folder)
    model: Detector = (
        plugin.build(inner, options.seed)
        if state is None
        else plugin.restore(inner, options.seed, state[1])
    )
    model.check_resolution(options.resolution)
    splits = runfolder.split_task(task, options.holdout)
    _check_sizes(tuple(p for used, _ in splits for p in used), model.least_side())
    device = accelerator.device

    def publish(trained: Detector, facts: dict[str, Any], where: Path = folder) -> None:
        checkpoint.publish(
            where, trained, _finished(options, task, splits, document, trained, facts, device)
        )

    def keep(trained: Detector, facts: dict[str, Any]) -> None:
        publish(trained, facts, folder / runfolder.KEPT / f"step-{facts['step']:08}")

    arguments = (options, task, splits, folder, model, state, accelerator, stop, keep)
    if accelerator.is_main_process:
        for line in advice.before(options, task):
            say(line)
        with runfolder.claimed(folder, document):
            publish(model, _fit(*arguments))
            checkpoint.remove_state(folder)
    else:
        _fit(*arguments)
    accelerator.wait_for_everyone()
    return checkpoint.read_facts(folder)


def _finished(
    options: TrainOptions,
    task: Task,
    splits: list[runfolder.Split],
    document: dict[str, Any],
    model: Detector,
    facts: dict[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    """Returns the facts of a checkpoint with these weights: what was asked, and what is normal."""
    rules = [c.foreground if options.foreground else "whole" for c in task.categories]
    kept = [held for _, held in calibration(splits, options.protocol)]
    kind, chosen = ("held-out", kept) if any(kept) else ("training", [u for u, _ in splits])
    paths = tuple(p for part in chosen for p in part)
    normals = normal_images(list(zip(chosen, rules, strict=True)), options, task.read_image)
    model.eval()
    model.calibrate(_Repeated(lambda: _read(normals, device, kind == "training")))
    judge = copy.deepcopy(model).inference_form()
    scores = score_files(judge, paths, Frame.of(options), device, task.read_image)
    return facts | {
        "options": dataclasses.asdict(options),
        "category": task.key,
        "categories": [c.key for c in task.categories],
        "inputs": document["inputs"],
        "code": document["code"],
        "reference": {"images": kind, **scores},
    }


def _read(
    normals: NormalImages, device: torch.device, trained_on: bool
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yields images in batches, with their indices where they were trained on."""
    for start in range(0, len(normals), PASS):
        index = np.arange(start, min(start + PASS, len(normals)))
        images = to_tensor(normals.stack(index), device)
        yield images, torch.from_numpy(index).to(device) if trained_on else None


def _check_sizes(paths: tuple[Path, ...], stride: int) -> None:
    for path in paths:
        size = read_size(path)
        if min(size) < stride:
            raise UserError(
                f"{path} is {size[0]} x {size[1]} pixels, smaller than the backbone's deepest"
                f" stride of {stride}: use larger images, or leave out the deepest layer"
            )


def _fit(
    options: TrainOptions,
    task: Task,
    splits: list[runfolder.Split],
    folder: Path,
    model: Detector,
    state: tuple[dict[str, Any], dict[str, Any]] | None,
    accelerator: Any,
    stop: StopFlag | None,
    keep: Callable[[Detector, dict[str, Any]], None],
) -> dict[str, Any]:
    device = accelerator.device
    rules = [c.foreground if options.foreground else "whole" for c in task.categories]
    parts = [(used, rule) for (used, _), rule in zip(splits, rules, strict=True)]
    normals = normal_images(parts, options, task.read_image)
    step = 0 if state is None else int(state[1]["step"])
    made, preparing = training_sources(options, task, normals, step)
    batches = Batches(normals, made, options.batch_size, options.seed, preparing)
    # Images arrive as height x width x channels: kernels for that layout are the fast ones.
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    look = looker(options, task, splits, device)
    parameters = 0

    def keep_step(trained: Detector, so_far: dict[str, Any]) -> None:
        keep(trained, _measured(dict(so_far), options, parameters, device))

    show = pictures(options, task, splits, batches, device) if accelerator.log_with else None
    loop = Loop(options, task.key, batches, model, folder, accelerator, look, stop, keep_step, show)
    parameters = loop.parameters
    if state is None:
        loop.facts["backbone"] = model.backbone.label
        loop.facts["backbone_sha256"] = model.backbone.state_sha256()
        count = int(options.options.get("afs_batches", 0))
        shown = accelerator.is_main_process
        looked = training_set(batches, count, device, shown=shown)
        with accelerator.autocast():
            loop.facts |= model.prepare(looked, options.seed)
        loop.facts["backbone_state_sha256"] = model.backbone.state_sha256()
    else:
        loop.resume(*state)
    trackers.begin(accelerator, task.key, dataclasses.asdict(options))
    try:
        loop.run()
    finally:
        trackers.end(accelerator)
    return _measured(loop.facts, options, loop.parameters, device)


def _measured(
    facts: dict[str, Any], options: TrainOptions, parameters: int, device: torch.device
) -> dict[str, Any]:
    """Returns the facts of a training so far with what it took."""
    on_gpu = torch.cuda.max_memory_allocated() // 2**20 if device.type == "cuda" else 0
    return facts | {
        "pairs_per_second": round(facts["step"] * options.each / max(facts["seconds"], 1e-9), 2),
        # Of the sitting that finished.
        "peak_memory_mib": int(on_gpu or memory.peak()["host"] / 2**20),
        "parameters": parameters,
        "precision": options.precision,
        "device": device.type,
    }
