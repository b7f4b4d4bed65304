"""What a generation run makes (RunOptions) and who makes it (ExecutionOptions).

RunOptions decide every byte; a resumed run must share them. ExecutionOptions may change from one
start to the next: the same images come out of any executor and any number of workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sia_gen.core.errors import UserError

SAMPLERS = ("iddpm", "ddim")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
EXECUTORS = ("ray", "local")
ENCODE = ("png", "webp", "realnet")
MAX_IMAGES = 100_000_000  # a category: image indices have eight digits


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def require_guidance_scale(scale: float) -> None:
    """Raises UserError for a scale that guides nowhere."""
    _require(
        math.isfinite(scale) and scale > 0,
        f"--guidance-scale {scale}: expected a number above 0; without --guidance there is none",
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is generated, from which model, into which folder."""

    out: str
    per_category: int
    data: str = "textures"
    categories: str = "all"
    model: str = "textures-64"
    s_low: float = 0.1
    s_high: float = 0.2
    seed: int = 0
    shard_size: int = 1000
    batch_size: int = 16
    threads: int = 1
    steps: int = 20
    sampler: str = "iddpm"
    precision: str = "auto"
    encode: str = "png"
    guidance: str = ""
    guidance_scale: float = 1.0
    compile: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        """Refuses values that no run could use, by their names."""
        low, high = self.s_low, self.s_high
        _require(
            math.isfinite(low) and math.isfinite(high),
            f"--s-range {low} {high}: expected two finite numbers, such as 0.1 0.2",
        )
        _require(low >= 0, f"--s-range {low} {high}: a strength is at least 0 (0 is no anomaly)")
        _require(
            low <= high,
            f"--s-range {low} {high} is reversed: give the lower strength first: {high} {low}",
        )
        for name in ("per_category", "shard_size", "batch_size", "threads", "steps"):
            value = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            _require(value >= 1, f"{flag} {value}: expected at least 1")
            _require(value <= MAX_IMAGES, f"{flag} {value}: expected at most {MAX_IMAGES}")
        require_guidance_scale(self.guidance_scale)
        _require(0 <= self.seed < 2**63, f"--seed {self.seed}: expected 0 <= seed < 2**63")
        for name, known in (
            ("sampler", SAMPLERS),
            ("precision", PRECISIONS),
            ("encode", ENCODE),
        ):
            value = getattr(self, name)
            _require(value in known, f"--{name} {value!r}: expected one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """Who runs the shards. None means: chosen from what the machine or the cluster has."""

    executor: str = "ray"
    workers: int | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    address: str | None = None
    device: str = "auto"
    attempts: int = 3
    deadline: float = 1800.0
    start_timeout: float = 300.0
    wait: float = 0.0  # further seconds in which an autoscaling cluster may make room
    join: bool = False

    def __post_init__(self) -> None:
        """Refuses values that no executor could use, and Ray's options without Ray."""
        _require(
            self.executor in EXECUTORS,
            f"--executor {self.executor!r}: expected one of {', '.join(EXECUTORS)}",
        )
        for name in ("workers", "num_cpus", "num_gpus", "address"):
            value = getattr(self, name)
            if value is not None and self.executor == "local" and (name, value) != ("workers", 1):
                flag = "--" + name.replace("_", "-")
                raise UserError(
                    f"{flag} {value} needs --executor ray: the local executor is this process"
                )
        _require(
            self.workers is None or 1 <= self.workers <= 100_000,
            f"--workers {self.workers}: expected 1 to 100000",
        )
        for name in ("num_cpus", "num_gpus"):
            value = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            finite = value is None or (math.isfinite(value) and value >= 0)
            _require(finite, f"{flag} {value}: expected a number of at least 0")
        _require(
            self.num_cpus is None or self.num_cpus > 0,
            f"--num-cpus {self.num_cpus}: a worker needs more than 0",
        )
        _require(self.attempts >= 1, f"--attempts {self.attempts}: expected at least 1")
        _require(
            math.isfinite(self.wait) and self.wait >= 0,
            f"--wait {self.wait}: expected seconds of at least 0",
        )
        _require(
            not self.wait or self.address is not None,
            f"--wait {self.wait:g} needs --address: the cluster that is started here does not grow",
        )
        for name in ("deadline", "start_timeout"):
            value = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            _require(
                math.isfinite(value) and value > 0, f"{flag} {value}: expected seconds above 0"
            )
