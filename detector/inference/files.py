"""The files that a prediction leaves for each image: pictures, maps, masks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from detector import overlay
from detector.engine import Engine
from detector.frame import Map, to_size
from detector.inference import steps
from detector.inference.outputs import write_picture
from detector.inference.pipeline import Read
from detector.prediction import Decision, Prediction
from sia_gen.core.pixels.images import Array8, encode_png

if TYPE_CHECKING:
    from detector.inference.options import PredictOptions


class Files:
    """Writes one image's files; `map_scale` is the score that a 16-bit map calls 65535."""

    def __init__(
        self, out: Path, engine: Engine, decision: Decision, options: PredictOptions
    ) -> None:
        self.out, self.engine, self.options = out, engine, options
        self.map_scale = max(1.0, 4 * decision.threshold)

    @property
    def shows_images(self) -> bool:
        """Whether the whole image is needed for what is written."""
        return self.options.overlays or self.options.steps

    def write(self, name: str, read: Read, prediction: Prediction) -> None:
        """Writes the files of the image of this name."""
        options = self.options
        if options.overlays:
            picture = self._picture(read, prediction)
            write_picture(self.out / "overlays", name, overlay.encoded(picture), overlay.SUFFIX)
        if options.steps and read.prepared is not None:
            fitted = read.prepared
            if self.engine.frame.tiled:
                fitted = self.engine.frame.fitted(fitted)
            panel = steps.panel(self.engine.model, fitted, self.engine.device, prediction.threshold)
            write_picture(self.out / "steps", name, encode_png(panel))
        if options.maps == "npy":
            content = io.BytesIO()
            np.save(content, prediction.map)
            write_picture(self.out / "maps", name, content.getvalue(), ".npy")
        elif options.maps == "png16":
            levels = encode_map(prediction.map, self.map_scale)
            write_picture(self.out / "maps", name, levels)
        if options.masks:
            mask = prediction.mask.astype(np.uint8) * 255
            write_picture(self.out / "masks", name, encode_png(mask))

    def _picture(self, read: Read, prediction: Prediction) -> Array8:
        assert read.original is not None  # kept because pictures are wanted
        height, width = read.size
        scale = min(1.0, self.options.shown / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        image = Image.fromarray(read.original)
        if size != (height, width):
            image = image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
        small = to_size(prediction.small, size)
        picture = overlay.panel(np.asarray(image), small, prediction.threshold)
        return overlay.captioned(
            picture, f"{prediction.label}  {prediction.score:.4f} / {prediction.threshold:.4f}"
        )


def encode_map(map_HW: Map, scale: float) -> bytes:
    """Returns a map as a 16-bit gray PNG: 65535 is `scale`, what lies above is clipped to it."""
    levels = np.rint(np.clip(map_HW / scale, 0, 1) * 65535).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
