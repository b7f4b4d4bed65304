"""Measuring: quality of synthetic images, quality of detectors, and a leaderboard (docs/python.md).

Whatever is not named here may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sia_gen.core.lazy import attach

if TYPE_CHECKING:
    from harness.api import Board, build_board, evaluate, measure_maps, measure_scores

__all__ = ["Board", "build_board", "evaluate", "measure_maps", "measure_scores"]

__getattr__, __dir__ = attach(__name__, dict.fromkeys(__all__, "harness.api"))
