"""What the stages of gpu.py share: the clock, the device, memory, commands of the product."""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import realnet as detector_bench
import torch
from PIL import Image

Record = Callable[..., None]


class Clock:
    """A stage's deadline; `left` is asked before every measurement that takes long."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def left(self) -> float:
        """Returns the seconds until the deadline."""
        return self.deadline - time.monotonic()

    def has(self, seconds: float) -> bool:
        """Returns whether so many seconds are left."""
        return self.left() > seconds


def device_of(small: bool) -> torch.device:
    """Returns the GPU, or the CPU for the run in small."""
    return torch.device("cpu" if small else "cuda")


def seconds_of(act: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Returns the median seconds of a call, after two that choose kernels."""
    for _ in range(2):
        act()
    return statistics.median(detector_bench.timed(act, device) for _ in range(rounds))


def gib(device: torch.device) -> float:
    """Returns the most memory since it was last set back, in GiB (0 on a CPU)."""
    if device.type != "cuda":
        return 0.0
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)


def forget(device: torch.device) -> None:
    """Sets the peak of memory back and frees what is cached."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def tight(act: Callable[[], None]) -> str | None:
    """Calls something that may not fit; returns the reason where it does not."""
    try:
        act()
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        return f"out of memory: {str(error).splitlines()[0][:120]}"
    return None


def write_photographs(folder: Path, count: int, side: int) -> Path:
    """Writes `count` images of smooth noise as one category and returns the dataset's folder."""
    place = folder / "noise" / "part" / "train" / "good"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(
            place / f"{i:03}.png"
        )
    return folder / "noise"


def command(arguments: list[str], seconds: float, small: bool) -> str | None:
    """Runs one of the product's commands as a user does; returns the end of its log on failure.

    In small it runs in this process, which saves loading torch again.
    """
    if small:
        from click.testing import CliRunner

        group = importlib.import_module(f"{arguments[0]}.main").group
        result = CliRunner().invoke(group, arguments[1:])
        return None if result.exit_code == 0 else f"{result.exception!r} {result.output[-300:]}"
    line = [sys.executable, "-m", *arguments]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=max(5.0, seconds))
    except subprocess.TimeoutExpired:
        return "cut by the stage's limit"
    return None if done.returncode == 0 else done.stderr[-300:]


def measured_training(
    record: Record, what: str, given: list[str], clock: Clock, small: bool
) -> None:
    """Records what a training's own checkpoint says of its speed and memory."""
    from sia_gen.core.store.files import read_json

    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "run"
        failed = command(["detector.cli", "train", *given, "--out", str(out)], clock.left(), small)
        if failed:
            record(what, failed=failed)
            return
        facts = read_json(next(out.rglob("checkpoint.json")))
        record(
            what,
            pairs_per_s=facts["pairs_per_second"],
            steps=facts["step"],
            peak_memory_mib=facts["peak_memory_mib"],
            precision=facts["precision"],
        )
