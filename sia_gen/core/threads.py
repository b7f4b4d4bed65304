"""How this project's processes share a machine's cores with other work."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Lets threads that wait for each other sleep; to be called before torch is imported.

    OpenMP's threads spin at their barriers unless told otherwise. On a machine that other work
    shares, a spinning thread keeps its core from the very thread it waits for: a network of small
    layers then runs many times slower. A policy that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
