"""Strength-controllable diffusion anomaly synthesis at cluster scale (docs/python.md).

Whatever is not named here may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sia_gen.core.lazy import attach

if TYPE_CHECKING:
    from sia_gen.api import Sample, load_model, make_pairs, read_shards
    from sia_gen.core.data.category import Category, Dataset
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.errors import UserError
    from sia_gen.core.pixels.pairs import Pair
    from sia_gen.core.version import __version__

__all__ = [
    "Category",
    "Dataset",
    "Pair",
    "Sample",
    "UserError",
    "__version__",
    "load_model",
    "make_pairs",
    "open_dataset",
    "read_shards",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Category": "sia_gen.core.data.category",
        "Dataset": "sia_gen.core.data.category",
        "Pair": "sia_gen.core.pixels.pairs",
        "Sample": "sia_gen.api",
        "UserError": "sia_gen.core.errors",
        "__version__": "sia_gen.core.version",
        "load_model": "sia_gen.api",
        "make_pairs": "sia_gen.api",
        "open_dataset": "sia_gen.core.data.dataset",
        "read_shards": "sia_gen.api",
    },
)
