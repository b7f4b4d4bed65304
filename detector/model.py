"""What a detector is to its trainer: the seam between the two, in types.

A file detector/models/NAME.py offers

    PAIRS                           whether training needs anomalous pairs; if not, give no source
    Options                         a frozen dataclass, every option with a default
    build(options, seed)            -> Detector, untrained, with its backbone's weights
    restore(options, seed, facts)   -> Detector, to take a checkpoint's tensors; reads no weights
    describe(options)               -> what a row of results must name of its options

and the trainer, the score file, prediction and export need no line for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detector.nets.folding import PROBE, folded

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from detector.nets.backbone import Backbone
    from detector.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a training. `trained` learn and are in train mode, all else is frozen in eval mode.

    `rate` gives the learning rate of the step after so many steps of this stage.
    """

    name: str
    steps: int
    trained: tuple[nn.Module, ...]
    optimizer: Callable[[list[nn.Parameter]], Optimizer]
    rate: Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One step's inputs, on the device. The first A of the B images have anomalous versions.

    anomalous_A3HW RGB in [0, 1] and masks_AHW bool (A is 0 without pairs); `constants` what
    `Detector.constants` gave for all B normal images; indices_B their places in the training set.
    """

    anomalous_A3HW: Tensor
    masks_AHW: Tensor
    constants: list[Tensor]
    indices_B: Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What `prepare` may look at: normal training images and pairs, never test images.

    Both are read anew at each iteration. Images are RGB in [0, 1], in the order of their indices,
    `images` in number; a pair is (anomalous, normal, mask (B, 1, H, W)).
    """

    images: int
    normal: Iterable[Tensor]
    pairs: Iterable[tuple[Tensor, ...]]


class Detector(nn.Module):
    """A network from images to anomaly maps that says itself how it is trained."""

    backbone: Backbone

    def least_side(self) -> int:
        """Returns the side in pixels below which an image is refused: the deepest stride."""
        return max(self.backbone.strides)

    def check_resolution(self, resolution: int) -> None:
        """Raises UserError where the network cannot work at this resolution."""
        raise NotImplementedError

    def prepare(self, training: TrainingSet, seed: int) -> dict[str, Any]:
        """Fixes the constants of a run before the first step; returns facts for the checkpoint."""
        raise NotImplementedError

    def stages(self, options: TrainOptions, images: int) -> list[Stage]:
        """Returns the stages of a training on so many normal images, in their order."""
        raise NotImplementedError

    def constants(self, stage: str, images_B3HW: Tensor, indices_B: Tensor) -> list[Tensor]:
        """Returns what a stage needs of normal images; computed once, kept while it fits.

        Each tensor has the images as its first dimension.
        """
        raise NotImplementedError

    def losses(self, stage: str, inputs: Inputs) -> dict[str, Tensor]:
        """Returns the named parts of a stage's loss, each a mean over the batch; the sum counts."""
        raise NotImplementedError

    def calibrate(self, normal: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """Measures what a score's scale needs on normal images, once trained; by default nothing.

        With images that were trained on come their indices.
        """
        del normal

    def inference_form(self) -> Detector:
        """Turns the network into its faster form for maps alone, in place, and returns it.

        The norms of the backbone are folded into its convolutions; weights lie channels-last.
        """
        self.eval().requires_grad_(False)
        # Noise, since a constant image would hide norms that are folded wrongly.
        noise = torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0))
        noise = noise.to(self.backbone.mean.device)
        self.backbone.net = folded(self.backbone.net, (noise,))
        return self.to(memory_format=torch.channels_last)

    def check_export(self) -> None:
        """Raises UserError where the network cannot be had in another runtime."""
        return

    def steps(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Returns what lies between images and maps, by name, for pictures; nothing by default.

        Images (B, 3, H, W) in [0, 1] and maps (B, H, W); the last is the "score".
        """
        del images_B3HW
        return {}

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Returns anomaly maps (B, H, W), higher is more anomalous, for RGB in [0, 1]."""
        raise NotImplementedError
