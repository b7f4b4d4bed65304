"""From images of any size to maps and scores: one place for whole images, padded ones and tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from detector import checkpoint
from detector.frame import Frame, Map, to_size
from detector.maps import BATCH, anomaly_maps
from detector.model import Detector
from detector.ranges import trained_range
from detector.scorefile import IMAGE_SCORES, image_scores
from detector.tiles import tiled_map
from sia_gen.compute import device as devices
from sia_gen.core.pixels.images import Array8, read_image
from sia_gen.core.pixels.ranges import ValueRange


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A network's map of one image of `size` (H, W), and the image scores of it.

    The map is R x R where whole images were stretched, else of the image's size.
    """

    small: Map
    size: tuple[int, int]
    scores: dict[str, float]

    def map(self) -> Map:
        """Returns the map at the image's own size, float32 (H, W)."""
        return to_size(self.small, self.size)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A network in its inference form, with how images are shown to it."""

    model: Detector
    frame: Frame
    device: torch.device
    precision: str = "fp32"
    value_range: ValueRange | None = None  # of files of more than 8 bits

    @classmethod
    def load(
        cls, folder: Path, device_name: str, precision: str = "fp32", category: str | None = None
    ) -> Engine:
        """Returns the engine of a checkpoint's folder, of one of its two files, or of an ONNX file.

        `category` (dataset/category) is the one whose images it will see, of several.
        """
        device = devices.choose_device(device_name)
        chosen = devices.choose_precision(precision, device)
        trained = checkpoint.load(folder, device, fast=True)
        frame = Frame.of(trained.options)
        return cls(
            model=trained.model,
            frame=frame,
            device=device,
            precision=chosen,
            value_range=trained_range(trained.facts, category),
        )

    def read(self, path: Path) -> Array8:
        """Returns an image file as uint8 RGB (H, W, 3), read as the training's were."""
        return read_image(path, value_range=self.value_range)

    def _maps(self, images_NRR3: Array8) -> Map:
        return anomaly_maps(self.model, images_NRR3, self.device, self.precision)

    def prepare(self, image_HW3: Array8) -> Array8:
        """Returns what `answers` takes of an image: R x R pixels, or the image itself for tiles.

        It needs no network, so it is done where images are read.
        """
        return image_HW3 if self.frame.tiled else self.frame.fitted(image_HW3)

    def answers(self, prepared: Sequence[Array8], sizes: Sequence[tuple[int, int]]) -> list[Answer]:
        """Returns the answers for prepared images whose own sizes are (H, W), in their order."""
        frame = self.frame
        if frame.tiled:
            return [
                self._answer(tiled_map(image, frame.resolution, frame.overlap, self._maps), size)
                for image, size in zip(prepared, sizes, strict=True)
            ]
        found: list[Answer] = []
        for first in range(0, len(prepared), BATCH):
            maps = self._maps(np.stack(prepared[first : first + BATCH]))
            for map_RR, size in zip(maps, sizes[first : first + BATCH], strict=True):
                found.append(self._answer(map_RR, size))
        return found

    def _answer(self, map_HW: Map, size: tuple[int, int]) -> Answer:
        if self.frame.fit == "pad":
            map_HW = to_size(self.frame.unfilled(map_HW, size), size)
        return Answer(small=map_HW, size=size, scores=image_scores(map_HW))


def score_files(
    model: Detector,
    paths: Sequence[Path],
    frame: Frame,
    device: torch.device,
    read: Callable[[Path, int | None], Array8] = read_image,
) -> dict[str, list[float]]:
    """Returns the image scores of files in their order, by the names of `image_scores`."""
    engine = Engine(model=model, frame=frame, device=device)
    found: dict[str, list[float]] = {f"score_{name}": [] for name in IMAGE_SCORES}
    whole = frame.tiled or frame.fit == "pad"
    batch = 1 if frame.tiled else BATCH
    for first in range(0, len(paths), batch):
        prepared, sizes = [], []
        for path in paths[first : first + batch]:
            image = read(path, None if whole else frame.resolution)
            prepared.append(engine.prepare(image))
            sizes.append(image.shape[:2])
        for answer in engine.answers(prepared, sizes):
            for name, value in answer.scores.items():
                found[name].append(value)
    return found
