"""Peers: other people's detectors, trained and scored here on the same images and weights.

`catalog` knows what can be had and what it needs, `plan` turns options into cells, `run` gives each
cell a process of its own (`worker`), and `rows` writes what became of it as records. Nothing here
but the worker and its parts (`build`, `batches`, `weights`) imports anomalib.
"""

from __future__ import annotations

import importlib.util

from sia_gen.core.errors import UserError

INSTALL = "pip install '.[peers]' in a checkout (anomalib 2.6 or newer)"


def installed() -> bool:
    """Returns whether anomalib can be imported, without importing it."""
    return importlib.util.find_spec("anomalib") is not None


def require() -> None:
    """Raises UserError with what to install where anomalib is missing."""
    if not installed():
        raise UserError(f"harness peers needs anomalib, which is not installed: {INSTALL}")
