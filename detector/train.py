"""Training one detector: Adam on batches that are functions of (seed, step), resumable anywhere.

Nothing draws from a running random state, so position, weights and optimiser are the whole state:
a training killed at any moment and started again ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detector import checkpoint, models, runfolder
from detector.batches import Batches, NoiseSource, NormalImages, SdasSource, Source
from detector.infer import score_images
from detector.options import TrainOptions, model_options
from detector.progress import Progress
from sia_gen.core.dataset import Category
from sia_gen.core.errors import DivergedError, UserError
from sia_gen.core.images import Array8
from sia_gen.core.plugins import load as load_plugin

CHECK_EVERY = 10  # steps between looks at the loss: each look waits for the device
PASS = 16  # images a pass where nothing is learned


def to_tensor(images_BHW3: Array8, device: torch.device) -> Tensor:
    """Returns uint8 images as float32 (B, 3, H, W) in [0, 1]."""
    moved = torch.from_numpy(images_BHW3).to(device, non_blocking=True)
    return moved.permute(0, 3, 1, 2).float().div_(255)


class Objective(nn.Module):
    """What is trained: from a batch to the two parts of its loss, in one forward for DDP."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, anomalous_A3HW: Tensor, normal: list[Tensor], masks_AHW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the reconstruction and the segmentation loss."""
        losses = self.model.losses(anomalous_A3HW, normal, masks_AHW)  # type: ignore[operator]
        return losses.reconstruction, losses.segmentation


def accelerator_for(device: str, precision: str) -> Any:
    """Returns accelerate's Accelerator for a device and a resolved precision."""
    from accelerate import Accelerator

    mixed = {"fp32": "no"}.get(precision, precision)
    return Accelerator(mixed_precision=mixed, cpu=torch.device(device).type == "cpu")


class NormalFeatures:
    """The selected features of normal images, constants of a run: kept while they fit in memory."""

    def __init__(
        self, model: Any, normals: NormalImages, device: torch.device, room: int, accelerator: Any
    ) -> None:
        self._model, self._normals, self._device = model, normals, device
        self._accelerator = accelerator
        first = self._compute(np.arange(1))
        each = sum(f.numel() * f.element_size() for f in first)
        self.kept: list[Tensor] | None = None
        if each * len(normals) <= room:
            passes = [
                self._compute(np.arange(i, min(i + PASS, len(normals))))
                for i in range(0, len(normals), PASS)
            ]
            self.kept = [torch.cat(blocks) for blocks in zip(*passes, strict=True)]

    @torch.no_grad()
    def _compute(self, indices: np.ndarray[Any, Any]) -> list[Tensor]:
        images = to_tensor(self._normals.stack(indices), self._device)
        with self._accelerator.autocast():
            return [f.float() for f in self._model.features(images)]

    def of(self, indices: np.ndarray[Any, Any]) -> list[Tensor]:
        """Returns the features of some normal images per block, each (B, C_k, h, w)."""
        if self.kept is None:
            return self._compute(indices)
        index = torch.from_numpy(indices).to(self._device)
        return [f.index_select(0, index) for f in self.kept]


def _source(options: TrainOptions, tars: list[Path]) -> Source:
    return SdasSource(tars, options.resolution) if options.source == "sdas" else NoiseSource()


def _pairs(batches: Batches, count: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    for step in range(count):
        batch = batches.anomalous(step)
        normal = batches.normals.stack(batch.normal)
        mask = torch.from_numpy(batch.masks).to(device)[:, None]
        yield to_tensor(batch.images, device), to_tensor(normal, device), mask


def _images(normals: NormalImages, device: torch.device) -> Iterator[Tensor]:
    for start in range(0, len(normals), PASS):
        index = np.arange(start, min(start + PASS, len(normals)))
        yield to_tensor(normals.stack(index), device)


def train(
    options: TrainOptions, category: Category, tars: list[Path], run: Path, accelerator: Any
) -> dict[str, Any]:
    """Trains one category to its last step and returns the facts of its checkpoint.

    A finished one is read back; one that was killed goes on where its last state stands.
    """
    folder = runfolder.folder_of(run, category)
    document = runfolder.describe(options, category, tars)
    if runfolder.check_claim(folder, document) == "finished":
        return checkpoint.read_facts(folder)
    plugin = load_plugin(models, options.model)
    inner = model_options(plugin.Options, options.options)
    model = plugin.build(inner, options.seed)
    model.check_resolution(options.resolution)
    used, held = runfolder.split_training(category, options.holdout)
    _check_sizes(used, max(model.backbone.strides))
    arguments = (options, category, used, tars, folder, model, plugin, accelerator)
    if accelerator.is_main_process:
        with runfolder.claimed(folder, document):
            facts = _fit(*arguments)
            kind, paths = ("held-out", held) if held else ("training", used)
            scores = score_images(model, paths, options.resolution, accelerator.device)
            facts |= {
                "options": dataclasses.asdict(options),
                "category": category.key,
                "inputs": document["inputs"],
                "code": document["code"],
                "reference": {"images": kind, **scores},
            }
            checkpoint.publish(folder, model, facts)
            checkpoint.remove_state(folder)
    else:
        _fit(*arguments)
    accelerator.wait_for_everyone()
    return checkpoint.read_facts(folder)


def _check_sizes(paths: tuple[Path, ...], stride: int) -> None:
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path) as image:
                size = image.size
        except OSError as error:
            raise UserError(f"{path} cannot be read as an image: {error}") from error
        if min(size) < stride:
            raise UserError(
                f"{path} is {size[0]} x {size[1]} pixels, smaller than the backbone's deepest"
                f" stride of {stride}: use larger images, or leave out the deepest layer"
            )


def _fit(
    options: TrainOptions,
    category: Category,
    used: tuple[Path, ...],
    tars: list[Path],
    folder: Path,
    model: Any,
    plugin: ModuleType,
    accelerator: Any,
) -> dict[str, Any]:
    device = accelerator.device
    normals = NormalImages(used, category.foreground, options.resolution)
    batches = Batches(normals, _source(options, tars), options.batch, options.seed)
    total = options.total_steps(len(used))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=options.lr, fused=True)
    facts: dict[str, Any] = {"step": 0, "seconds": 0.0, "curve": []}
    state = checkpoint.load_state(folder)
    began = time.monotonic()
    model.to(device)
    if state is None:
        facts["backbone"] = model.backbone.label
        facts["backbone_sha256"] = model.backbone.state_sha256()
        count = model.options.afs_batches
        facts["afs_losses"] = plugin.prepare(
            model,
            plugin.TrainingSet(
                normal=_images(normals, device), pairs=_pairs(batches, count, device)
            ),
            options.seed,
        )
        facts["backbone_state_sha256"] = model.backbone.state_sha256()
    else:
        tensors, facts = state
        model.load_state_dict(tensors["model"])
    objective, optimizer = accelerator.prepare(Objective(model), optimizer)
    if state is not None:
        optimizer.load_state_dict(tensors["optimizer"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(tensors["scaler"])
    features = NormalFeatures(model, normals, device, int(options.cache_gib * 2**30), accelerator)
    facts["seconds"] += time.monotonic() - began
    _loop(options, category, batches, features, objective, optimizer, facts, folder, accelerator)
    broken = checkpoint.nonfinite(model.state_dict())
    if broken:
        raise _diverged(folder, total, f"{broken[0]} holds NaN or infinite values")
    facts["pairs_per_second"] = round(total * options.batch / max(facts["seconds"], 1e-9), 2)
    facts["parameters"] = sum(p.numel() for p in trained)
    facts["precision"] = options.precision
    facts["device"] = device.type
    return facts


def _loop(
    options: TrainOptions,
    category: Category,
    batches: Batches,
    features: NormalFeatures,
    objective: nn.Module,
    optimizer: Any,
    facts: dict[str, Any],
    folder: Path,
    accelerator: Any,
) -> None:
    device = accelerator.device
    total = options.total_steps(len(batches.normals))
    first = int(facts["step"])
    progress = Progress(
        f"{category.key} {options.source}",
        first,
        total,
        options.batch,
        shown=accelerator.is_main_process,
    )
    window: list[Tensor] = []
    saved = clock = time.monotonic()
    objective.train()
    stream = batches.stream(first, total, accelerator.process_index, accelerator.num_processes)
    for step, batch in enumerate(stream, start=first + 1):
        for group in optimizer.param_groups:
            group["lr"] = options.rate(step - 1, total)
        reconstruction, segmentation = objective(
            to_tensor(batch.images, device),
            features.of(batch.normal),
            torch.from_numpy(batch.masks).to(device),
        )
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(reconstruction + segmentation)
        optimizer.step()
        window.append(torch.stack([reconstruction.detach(), segmentation.detach()]).float())
        if step % CHECK_EVERY and step != total:
            continue
        # One look for all ranks: a loss that is not finite anywhere stops everyone together.
        means = accelerator.reduce(torch.stack(window).mean(dim=0), "mean").tolist()
        window = []
        if not np.isfinite(means).all():
            raise _diverged(folder, step, f"the loss is {sum(means)}")
        facts["curve"].append([step, round(means[0], 6), round(means[1], 6)])
        progress.update(step, sum(means))
        now = time.monotonic()
        facts["seconds"], clock = facts["seconds"] + now - clock, now
        facts["step"] = step
        due = torch.tensor(float(now - saved >= options.checkpoint_seconds), device=device)
        if step < total and bool(accelerator.reduce(due, "max") > 0):
            _save(folder, objective, optimizer, facts, accelerator)
            saved = time.monotonic()
    progress.close()


def _save(
    folder: Path, objective: nn.Module, optimizer: Any, facts: dict[str, Any], accelerator: Any
) -> None:
    if not accelerator.is_main_process:
        return
    model = accelerator.unwrap_model(objective).model
    weights = model.state_dict()
    broken = checkpoint.nonfinite(weights)
    if broken:
        raise _diverged(folder, facts["step"], f"{broken[0]} holds NaN or infinite values")
    tensors = {"model": weights, "optimizer": optimizer.state_dict()}
    if accelerator.scaler is not None:
        tensors["scaler"] = accelerator.scaler.state_dict()
    checkpoint.save_state(folder, facts["step"], tensors, facts)


def _diverged(folder: Path, step: int, what: str) -> DivergedError:
    states = sorted((folder / runfolder.STATE).glob("step-*"))
    kept = f"the last good state is kept in {states[-1]}" if states else "no state was saved yet"
    return DivergedError(
        f"training diverged at step {step}: {what}; {kept}. Give a lower --lr, or --precision fp32"
    )
