"""RD, reverse distillation: ReDi without the recover network and without self-correlation.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding"; the width is
that of its public code. Both branches see the image itself; all else is `redi`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detector.models import redi

PAIRS = redi.PAIRS


@dataclass(frozen=True, kw_only=True)
class Options(redi.Options):
    """ReDi's options with RD's defaults."""

    recover: str = "none"
    lambda_s: float = 0.0
    drops: tuple[float, ...] = ()
    optimizer: str = "adam"
    weight_decay: float = 0.0
    beta1: float = 0.5


def build(options: Options, seed: int) -> redi.ReDi:
    """Returns an untrained RD with its backbone's weights; a function of the seed."""
    return redi.build(options, seed)


def restore(options: Options, seed: int, facts: dict[str, Any]) -> redi.ReDi:
    """Returns the structure for a checkpoint's tensors; reads no weights."""
    return redi.restore(options, seed, facts)


def describe(options: Options) -> dict[str, Any]:
    """Returns what a row of results must name of the options."""
    return redi.describe(options)
