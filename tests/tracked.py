"""What TensorBoard's files hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sia_gen.core.pixels.images import Array8, decode


def _events(folder: Path) -> Iterator[Any]:
    reader: Any = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra `test` has it"
    )
    for path in sorted({file.parent for file in folder.rglob("events.out.tfevents.*")}):
        events = reader.EventAccumulator(str(path))
        events.Reload()
        yield events


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of the event files below a folder, by their tags: (step, value) each."""
    found: dict[str, list[tuple[int, float]]] = {}
    for events in _events(folder):
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend((e.step, e.value) for e in events.Scalars(tag))
    return found


def pictures(folder: Path) -> dict[str, list[tuple[int, Array8]]]:
    """The pictures of the event files below a folder, by their tags: (step, uint8) each."""
    found: dict[str, list[tuple[int, Array8]]] = {}
    for events in _events(folder):
        for tag in events.Tags()["images"]:
            seen = found.setdefault(tag, [])
            seen += [(e.step, decode(e.encoded_image_string, tag)) for e in events.Images(tag)]
    return found
