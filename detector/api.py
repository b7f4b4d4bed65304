"""The detector as an object: a checkpoint, asked about images in memory or in files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from detector import checkpoint
from detector.engine import Engine
from detector.inference.memory import of_array, of_pillow
from detector.maps import BATCH
from detector.prediction import Decision, Prediction
from detector.threshold import decide
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, read_image
from sia_gen.core.pixels.ranges import ValueRange
from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import locate

if TYPE_CHECKING:
    Picture = str | PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor


def _is_batch(given: object) -> bool:
    return isinstance(given, np.ndarray | Tensor) and given.ndim == 4


def to_image(given: Picture, value_range: ValueRange | None = None) -> Array8:
    """Returns one image in any accepted form as uint8 RGB (H, W, 3); UserError for others.

    A path, a Pillow image, an array (H, W), (H, W, 1) or (H, W, 3), or a tensor (1 or 3, H, W);
    arrays and tensors hold uint8, or floats from 0 to 1. Of files and Pillow images of more than 8
    bits `value_range` becomes 0 to 255.
    """
    if isinstance(given, str | PathLike):
        return read_image(Path(given), value_range=value_range)
    if isinstance(given, Image.Image):
        return of_pillow(given, value_range)
    if isinstance(given, Tensor):
        if given.ndim != 3:
            raise UserError(f"tensor of shape {tuple(given.shape)}: expected (3, H, W)")
        pixels = given.detach().cpu()
        pixels = pixels.float() if pixels.is_floating_point() else pixels
        return of_array(pixels.permute(1, 2, 0).numpy(), "tensor")
    if isinstance(given, np.ndarray):
        return of_array(given, "array")
    raise UserError(
        f"an image cannot be a {type(given).__name__}: give a path, a Pillow image, an array"
        " (H, W, 3) or a tensor (3, H, W)"
    )


class Detector:
    """A trained detector with its threshold; it is made by `Detector.load`."""

    def __init__(self, engine: Engine, decision: Decision, facts: dict[str, Any]) -> None:
        self._engine, self.decision, self.facts = engine, decision, facts

    @classmethod
    def load(
        cls,
        checkpoint_folder: str | PathLike[str],
        *,
        device: str = "auto",
        precision: str = "fp32",
        image_score: str | None = None,
        false_alarms: float = 0.05,
        least_area: int = 1,
    ) -> Detector:
        """Returns the detector of RUN/<dataset>/<category>, or of an address: hf://OWNER/NAME.

        UserError says what is wrong with it.

        `image_score`: max, avgpool16_max or top1_mean; without it the recipe's. `false_alarms`:
        the share of normal images that may be called anomalous. `least_area`: the pixels of the
        smallest region that counts as a box.
        """
        folder = local_folder(locate(fspath(checkpoint_folder)))
        facts = checkpoint.read_facts(folder)
        decision = decide(facts, image_score, false_alarms, least_area)
        return cls(Engine.load(folder, device, precision), decision, facts)

    def __repr__(self) -> str:
        """Returns the category and the threshold, for a reader."""
        return f"Detector({self.category!r}, threshold={self.threshold:.4f})"

    @property
    def category(self) -> str:
        """What it was trained on: dataset/category."""
        return str(self.facts["category"])

    @property
    def threshold(self) -> float:
        """The score above which an image is called anomalous."""
        return self.decision.threshold

    @property
    def promise(self) -> float | None:
        """The false-alarm rate on new normal images that the threshold keeps; None without."""
        return self.decision.promise

    @overload
    def predict(self, images: Picture) -> Prediction: ...
    @overload
    def predict(self, images: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def predict(self, images: Iterator[Any]) -> Iterator[Prediction]: ...
    def predict(self, images: Any) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Returns what it says of one image, or of each of many.

        One image gives a Prediction. A list, a tuple, an array (B, H, W, 3) or a tensor
        (B, 3, H, W) gives a list; any other iterable an iterator that reads no more than a batch
        ahead. See `to_image` for what an image may be.
        """
        if _is_batch(images) or isinstance(images, list | tuple):
            return list(self.stream(images))
        if isinstance(images, str | PathLike | Image.Image | np.ndarray | Tensor):
            return next(self.stream([images]))
        if isinstance(images, Iterable):
            return self.stream(images)
        return next(self.stream([images]))

    @property
    def value_range(self) -> ValueRange | None:
        """What becomes 0 to 255 in images of more than 8 bits: the range of the training's."""
        return self._engine.value_range

    def stream(self, images: Iterable[Picture]) -> Iterator[Prediction]:
        """Yields a Prediction for each image, in their order; a batch is computed at a time."""
        source = (to_image(image, self.value_range) for image in images)
        while part := list(itertools.islice(source, 1 if self._engine.frame.tiled else BATCH)):
            prepared = [self._engine.prepare(image) for image in part]
            sizes = [(image.shape[0], image.shape[1]) for image in part]
            for answer in self._engine.answers(prepared, sizes):
                yield Prediction(answer, self.decision)
