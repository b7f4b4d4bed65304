"""A fake model for tests of the machinery: noise from a seed, and faults on request.

    SIA_GEN_TESTING=fake_model PYTHONPATH=benchmarks sia-gen run --model testing:noise ...
    --model "testing:noise?fault=kill&at=123&once=/tmp/marker&delay=0.05"

The pixels depend on seed, strength, size and weights alone, so that a run with faults must equal
one without. Records name it ("testing:..."): nothing made by it passes for a real image.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from sia_gen.core.errors import NonFiniteImagesError, UserError
from sia_gen.core.pixels.images import Array8
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.seeds import generator

FAULTS = (
    "",
    "kill",
    "hang",
    "raise",
    "memory",
    "nan",
    "constant",
    "duplicate",
    "load",
    "kill-load",
)


@dataclass(frozen=True, kw_only=True)
class Fake:
    """A fake's options, its facts, and the generator itself."""

    size: int = 16
    names: str = "brick,grass,gravel"
    weights: int = 0  # another number is another model: other pixels, another checkpoint hash
    delay: float = 0.0  # seconds a batch
    gate: str = ""  # a file without which no batch is made: work that waits for its test
    load_delay: float = 0.0
    fault: str = ""
    at: int = -1  # the seed of the image at which the fault happens; -1: at any
    once: str = ""  # a file that is created by the first fault and prevents further ones
    health_check: str = "passed"  # passed, failed, or missing
    judged: int = (
        0  # 1: its brightness is compared with the normal images, which noise resembles not
    )

    @property
    def resolution(self) -> int:
        """The side of the images, in pixels."""
        return self.size

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the categories the fake knows."""
        return tuple(self.names.split(","))

    @property
    def checkpoint_sha256(self) -> str:
        """A hash of what decides the pixels."""
        return sha256_bytes(f"fake {self.size} {self.weights}".encode())

    @property
    def health(self) -> dict[str, Any]:
        """The pretended health check."""
        return {} if self.health_check == "missing" else {"passed": self.health_check == "passed"}

    @property
    def device(self) -> object:
        """The name of no device."""
        return "testing"

    @property
    def guidance_sha256(self) -> str:
        """No guidance: noise has no classes."""
        return ""

    @property
    def precision(self) -> str:
        """The precision of bytes."""
        return "uint8"

    def images(self, category: str, seeds: Sequence[int], strengths: Sequence[float]) -> Array8:
        """Returns noise images (B, size, size, 3), one for each seed, louder with the strength."""
        time.sleep(self.delay)
        while self.gate and not Path(self.gate).exists():
            time.sleep(0.05)
        made = np.stack(
            [
                self._image(category, seed, strength)
                for seed, strength in zip(seeds, strengths, strict=True)
            ]
        )
        if self.fault and (self.at == -1 or self.at in seeds) and self._due():
            self._happen(made)
        return made

    def _image(self, category: str, seed: int, strength: float) -> Array8:
        rng = generator("fake", self.weights, category, seed)
        noise = rng.normal(0.0, 30.0 * (1.0 + strength), (self.size, self.size, 3))
        return np.clip(np.rint(128.0 + noise), 0, 255).astype(np.uint8)

    def _due(self) -> bool:
        if not self.once:
            return True
        try:
            Path(self.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _happen(self, made: Array8) -> None:
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "hang":
            time.sleep(3600)
        elif self.fault == "raise":
            raise RuntimeError("a fault on request")
        elif self.fault == "memory":
            raise MemoryError("a fault on request")
        elif self.fault == "nan":
            raise NonFiniteImagesError(len(made), len(made))
        elif self.fault == "constant":
            made[:] = 7
        elif self.fault == "duplicate":
            made[:] = made[0]


def announce() -> None:
    """Has this process, its children and their Ray workers find this module by `testing:`."""
    here = Path(__file__).resolve().parent
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), *known])
    os.environ["SIA_GEN_TESTING"] = __name__


def parse(model: str) -> Fake:
    """Returns the fake that a `testing:...` name describes; UserError for a misspelt one."""
    name, _, query = model.removeprefix("testing:").partition("?")
    if name != "noise":
        raise UserError(f"model {model!r}: the only fake is testing:noise")
    kinds = {field.name: str(field.type) for field in fields(Fake)}
    values: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if key not in kinds:
            raise UserError(f"model {model!r}: {key!r} is none of {', '.join(kinds)}")
        values[key] = {"int": int, "float": float}.get(kinds[key], str)(text)
    fake = Fake(**values)
    if fake.fault not in FAULTS:
        raise UserError(f"model {model!r}: fault {fake.fault!r} is none of {', '.join(FAULTS)}")
    return fake


def load(model: str) -> Fake:
    """Returns the fake, after the delay or the fault that it asks for."""
    fake = parse(model)
    time.sleep(fake.load_delay)
    if fake.fault == "load":
        raise UserError("the model cannot be loaded: a fault on request")
    if fake.fault == "kill-load" and fake._due():
        os.kill(os.getpid(), signal.SIGKILL)
    return fake
