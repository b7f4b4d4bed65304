"""What the tests of the generation job share."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_model import parse

from sia_gen.core.provenance import sha256_file
from sia_gen.core.seeds import image_seed
from sia_gen.generate import run as factory
from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.contents import images, packed
from sia_gen.generate.executors.contract import Summary
from sia_gen.generate.options import ExecutionOptions, PackOptions, RunOptions
from sia_gen.generate.recipe import ImageShard, Recipe, specs
from sia_gen.runs.events import Event

DATASET = "mini"
CATEGORIES = ("brick", "grass", "gravel")
STABLE = ("index.json", "wids.json", "sizes.json", "README.md", "card/strengths.svg")
RUN_FILES = {
    *STABLE,
    *("run.json", "progress.json", "croissant.json", "card/contact-sheet.png"),
}


class NoStop:
    """A stop flag that is never set."""

    def is_set(self) -> bool:
        return False

    def install(self) -> None:
        pass


def seed_of(category: str, index: int) -> int:
    """The seed of an image of a run with seed 0."""
    return image_seed(0, f"{DATASET}/{category}", index)


def options(out: object, data: Path, **changes: Any) -> RunOptions:
    """Options of a run of three categories in nine shards."""
    values: dict[str, Any] = {
        "out": str(out),
        "data": str(data),
        "model": "testing:noise",
        "per_category": 20,
        "shard_size": 8,
        "batch_size": 4,
    }
    return RunOptions(**{**values, **changes})


def recipe(model: str = "testing:noise", **changes: Any) -> Recipe:
    """The recipe of the same run."""
    fake = parse(model)
    values: dict[str, Any] = {
        "dataset": DATASET,
        "categories": CATEGORIES,
        "per_category": 20,
        "s_low": 0.1,
        "s_high": 0.2,
        "seed": 0,
        "shard_size": 8,
        "batch_size": 4,
        "threads": 1,
        "steps": 20,
        "sampler": "iddpm",
        "precision": "auto",
        "checkpoint_sha256": fake.checkpoint_sha256,
        "resolution": fake.resolution,
    }
    return Recipe(**{**values, **changes})


def config(run: Path, model: str = "testing:noise") -> WorkerConfig:
    """A worker's configuration for the fake model."""
    return WorkerConfig(kind=images.KIND, run=str(run), given={"model": model, "guidance": ""})


def run(options: RunOptions, execution: ExecutionOptions, **more: Any) -> dict[str, Any]:
    """Runs or resumes a run of images."""
    return factory.run(images.prepare(options), execution, **more)


def pack(options: PackOptions) -> dict[str, Any]:
    """Packs a folder in this process."""
    return factory.run(packed.prepare(options), ExecutionOptions(executor="local"))


def plan(**changes: Any) -> list[ImageShard]:
    return specs(recipe(**changes))


def tar_hashes(run: Path) -> dict[str, str]:
    """The SHA-256 of each tar below a run folder."""
    return {
        path.relative_to(run).as_posix(): sha256_file(path)
        for path in sorted((run / "shards").rglob("*.tar"))
    }


def stable_files(run: Path) -> dict[str, str]:
    """Everything of a run that must not depend on who made it, when, or how often it was killed."""
    found = dict(tar_hashes(run))
    for path in sorted((run / "shards").rglob("*.json")):
        record = json.loads(path.read_text())
        del record["made"]
        found[path.relative_to(run).as_posix()] = json.dumps(record, sort_keys=True)
    for name in STABLE:
        found[name] = (run / name).read_text()
    found["sheet"] = sha256_file(run / "card/contact-sheet.png")
    return found


def all_files(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


class Events(list[Event]):
    """Collects events."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: str) -> list[Event]:
        return [event for event in self if event.kind == kind]


Runner = Callable[..., Summary]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sia_gen.cli", *map(str, arguments)]


def start(*arguments: object, **keywords: Any) -> subprocess.Popen[str]:
    """Starts `sia-gen` as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **keywords.pop("env", {})}
    return subprocess.Popen(
        command(*arguments),
        stdout=keywords.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **keywords,
    )


def finish(process: subprocess.Popen[str], timeout: float = 180) -> tuple[int, str, str]:
    """Returns exit code, stdout and stderr of a started process."""
    try:
        out, error = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, out, error


def call(*arguments: object, **keywords: Any) -> tuple[int, str, str]:
    """Runs `sia-gen` as a process of its own and returns exit code, stdout and stderr."""
    return finish(start(*arguments, **keywords))


def run_arguments(out: object, data: Path, /, **changes: object) -> list[object]:
    """Arguments of `sia-gen run` for the run of `options`, on the local executor."""
    values: dict[str, object] = {
        "out": out,
        "data": data,
        "model": "testing:noise",
        "per-category": 20,
        "shard-size": 8,
        "batch-size": 4,
        "executor": "local",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    flat: list[object] = ["run"]
    for name, value in values.items():
        flat += [f"--{name}", *(value if isinstance(value, tuple) else (value,))]
    return flat


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Waits until something is true, or fails."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a driver as a machine's failure would."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
