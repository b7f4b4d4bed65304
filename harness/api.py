"""Measuring and ranking from Python: what the commands do, on objects in memory."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import scorefile
from harness import records
from harness.board import exports
from harness.board.build import RANK_BY, build
from harness.board.words import Section
from harness.measure import detection
from harness.measure.detection_metrics import measure
from harness.records import Record
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.ragged import stacked

Where = str | PathLike[str]


def _values(scores: scorefile.Scores) -> dict[str, float | None]:
    return {name: entry["value"] for name, entry in measure(scores).metrics.items()}


def measure_scores(folder: Where) -> dict[str, float | None]:
    """Returns the metrics of a score folder by name, shares in 0..1; None where undefined."""
    return _values(detection.checked(Path(folder)))


def measure_maps(
    maps: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    masks: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
) -> dict[str, float | None]:
    """Returns the metrics of anomaly maps (H, W) against masks; an empty mask is a normal image.

    Maps may differ in size, each has its mask's. Shares in 0..1; None where undefined.
    """
    if len(maps) != len(masks) or not len(maps):
        raise UserError(f"{len(maps)} maps and {len(masks)} masks: expected as many, at least one")
    found = [np.asarray(one, dtype=np.float32) for one in maps]
    truth = [(np.asarray(one) != 0).astype(np.uint8) for one in masks]
    items = []
    for number, (map_HW, mask_HW) in enumerate(zip(found, truth, strict=True)):
        if map_HW.ndim != 2 or map_HW.shape != mask_HW.shape:
            raise UserError(
                f"map {number} is {map_HW.shape}, its mask {mask_HW.shape}: expected (H, W) twice"
            )
        anomalous = bool(mask_HW.any())
        items.append(
            {
                "path": str(number),
                "defect": "anomaly" if anomalous else "good",
                "anomalous": anomalous,
                "has_mask": anomalous,
                **scorefile.image_scores(map_HW),
            }
        )
    scores = scorefile.Scores(
        category="memory/maps",
        maps_NHW=stacked(found),
        masks_NHW=stacked(truth),
        items=items,
        protocol={},
    )
    scorefile.check(scores, "the given maps")
    return _values(scores)


def evaluate(scores: Where | Sequence[Where], out: Where, *, examples: int = 2) -> list[Record]:
    """Measures every score folder below these, writes a record each below `out`, returns them."""
    given = [scores] if isinstance(scores, str | PathLike) else scores
    return detection.run([Path(one) for one in given], Path(out), each=examples)


class Board:
    """A leaderboard of results; `sections` holds its tables as objects."""

    def __init__(self, sections: list[Section]) -> None:
        self.sections = sections

    def __str__(self) -> str:
        """Returns the board as a terminal shows it."""
        return self.text("table")

    def text(self, form: str = "table") -> str:
        """Returns the board as table, csv, json, md or latex."""
        if form not in exports.FORMATS:
            raise UserError(f"form {form!r} is not one of {', '.join(exports.FORMATS)}")
        return exports.render(self.sections, form)

    def as_dict(self) -> dict[str, Any]:
        """Returns the board as a JSON value; shares are 0..1."""
        return exports.as_document(self.sections)

    def write_html(self, path: Where, title: str = "Leaderboard") -> None:
        """Writes the board as one self-contained page."""
        from harness.board import page

        page.write(Path(path), self.sections, [], title)


def build_board(*results: Where, rank_by: str = RANK_BY) -> Board:
    """Returns the leaderboard of folders of results."""
    return Board(build(records.find([Path(one) for one in results]), rank_by=rank_by))
