"""Predictions as anomalib saves them, `torch.save(engine.predict(...))`, read without anomalib.

Such a file is a pickle of anomalib's own classes around torchvision's image tensors. The classes
are read into a stand-in that only holds their fields; every other class stays refused, so no code
of the file runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PLACES = (
    "anomalib.data.dataclasses.torch.image.ImageBatch",
    "anomalib.data.dataclasses.torch.image.ImageItem",
)


class Fields:
    """Stands for an object of anomalib's while a file is read: its fields, no code."""

    def mapping(self) -> dict[str, Any]:
        """Returns the fields by name, those without a value left out."""
        return {name.lstrip("_"): v for name, v in vars(self).items() if v is not None}


def load(path: Path) -> Any:
    """Returns a file's lists, dictionaries, strings and tensors; anomalib's objects as mappings."""
    import torch
    from torchvision.tv_tensors import Image, Mask

    known: list[Any] = [Image, Mask, *((Fields, place) for place in _PLACES)]
    with torch.serialization.safe_globals(known):
        content = torch.load(path, map_location="cpu", weights_only=True)
    return _plain(content)


def _plain(content: Any) -> Any:
    if isinstance(content, Fields):
        return content.mapping()
    if isinstance(content, list | tuple):  # one list of batches, or one for each data loader
        plain = [_plain(part) for part in content]
        nested = bool(plain) and all(isinstance(part, list) for part in plain)
        return [part for each in plain for part in each] if nested else plain
    return content
