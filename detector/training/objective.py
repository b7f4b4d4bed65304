"""One optimiser step: the loss of a batch, or of several whose gradients are added up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from detector.data.batches import Batch
from detector.model import Detector, Inputs
from detector.training.constants import Constants, to_tensor


class Objective(nn.Module):
    """What is trained: from a batch to the parts of its loss, in one forward for DDP."""

    def __init__(self, model: Detector, stage: str) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        self.names: list[str] = []

    def forward(
        self, anomalous_A3HW: Tensor, masks_AHW: Tensor, constants: list[Tensor], indices_B: Tensor
    ) -> Tensor:
        """Returns the parts of the loss, (P,); `names` says which is which."""
        inputs = Inputs(
            anomalous_A3HW=anomalous_A3HW,
            masks_AHW=masks_AHW,
            constants=constants,
            indices_B=indices_B,
        )
        losses = self.model.losses(self.stage, inputs)
        self.names = list(losses)
        return torch.stack([loss.float() for loss in losses.values()])


def learn(
    accelerator: Any,
    objective: nn.Module,
    optimizer: Any,
    batches: Sequence[Batch],
    constants: Constants,
    *,
    whole: int,
    clip: float,
) -> Tensor:
    """Takes one step over the mean loss of `batches` and returns its parts, (P,).

    `whole` is the size of a batch over all processes: every image weighs alike, also where their
    shares differ by one. `clip` is the largest norm of the gradient; 0 leaves it as it is.
    """
    optimizer.zero_grad(set_to_none=True)
    total: Tensor | None = None
    for number, batch in enumerate(batches, start=1):
        weight = len(batch.normal) * accelerator.num_processes / whole / len(batches)
        # Processes exchange their gradients once a step, with the last batch's.
        last = number == len(batches)
        with nullcontext() if last else accelerator.no_sync(objective):
            losses = _forward(objective, batch, constants, accelerator.device) * weight
            accelerator.backward(losses.sum())
        total = losses.detach() if total is None else total + losses.detach()
    if total is None:
        raise ValueError("a step needs a batch")
    if clip:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        accelerator.clip_grad_norm_(trained, clip)
    optimizer.step()
    return total


def _forward(
    objective: nn.Module, batch: Batch, constants: Constants, device: torch.device
) -> Tensor:
    losses: Tensor = objective(
        to_tensor(batch.images, device),
        torch.from_numpy(batch.masks).to(device),
        constants.of(batch.normal),
        torch.from_numpy(batch.normal).to(device),
    )
    return losses
