"""What is made (RunOptions, SynthesisOptions, PackOptions), who makes it (ExecutionOptions), and
what contact sheets show.

The first decide every byte; a resumed run must share them. ExecutionOptions may change from one
start to the next: the same shards come out of any executor and any number of workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core import shared_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, like, option, settings
from sia_gen.core.store.objects import require_local

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
EXECUTORS = ("ray", "local")
ENCODE = ("png", "webp", "realnet")
MAX_IMAGES = 100_000_000  # a category: image indices have eight digits
MAX_SEED = 2**63 - 1
OUT = "Run folder or s3://BUCKET/PREFIX; new, or to be resumed."


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Checked):
    """What is generated, from which model, into which folder."""

    out: str = option("runs/sia", OUT, metavar="DIR")
    per_category: int = option(10_000, "Images for each category.", low=1, high=MAX_IMAGES)
    data: str = shared_options.data()
    categories: str = shared_options.categories()
    model: str = option(
        "textures-64",
        "Name of a shipped model, or a folder written by `sia-gen train`.",
        metavar="MODEL",
    )
    s_low: float = 0.1  # --s-range, with s_high
    s_high: float = 0.2
    seed: int = option(0, "Seed of the run.", low=0, high=MAX_SEED)
    shard_size: int = option(
        1000,
        "Images in a shard, the unit of work; smaller ones share out better.",
        low=1,
    )
    batch_size: int = option(16, "Images computed together; part of the result's bits.", low=1)
    threads: int = option(
        1,
        "CPU threads of each worker; they round differently, so part of the bits too.",
        low=1,
    )
    steps: int = option(20, "Sampling steps.", low=1)
    sampler: str = option(
        shared_options.AUTO,
        "auto: the model's own; iddpm: the ancestral reverse step, as published; ddim: DDIM with"
        " perturbation; dpmpp-2m-sde: of second order.",
        choices=(shared_options.AUTO, *shared_options.SAMPLERS),
    )
    precision: str = option(
        "auto",
        "Precision of the network; auto takes what the device is fast in.",
        choices=PRECISIONS,
    )
    encode: str = option(
        "png",
        "png, webp: lossless; realnet: cut off and JPEG 75, as the authors' archives.",
        choices=ENCODE,
    )
    guidance: str = option(
        "",
        "Classifier folder of `sia-gen import`: steers images to their category.",
        metavar="DIR",
        shown="off",
    )
    guidance_scale: float = option(1.0, "Weight of the classifier's gradient.", above=0)
    compile: bool = option(
        False, "Compile the network (and record CUDA graphs): minutes before the first image."
    )
    force: bool = option(False, "Generate from a model that has not passed its health check.")

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
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions(Checked):
    """What pairs are made, from what, into which folder."""

    method: str = option(help="sdas, sdas-inplace, dtd, nsa, cutpaste or noise.", metavar="NAME")
    out: str = option(help=OUT, metavar="DIR")
    data: str = shared_options.data()
    categories: str = shared_options.categories()
    value_range: tuple[float, float] | None = shared_options.value_range()
    per_category: int = option(1000, "Pairs for each category.", low=1, high=MAX_IMAGES)
    resolution: int = option(256, "Pixels a side.", low=16, high=4096)
    shards: str = option("", "Run of `sia-gen run`, for sdas.", metavar="RUN")
    foreground: str = option(
        "",
        "whole, auto, a rule, or a folder of masks.",
        metavar="RULE",
        shown="the category's",
    )
    seed: int = option(0, "Seed of the run.", low=0, high=MAX_SEED)
    shard_size: int = option(500, "Pairs in a shard.", low=1, high=100_000)
    normal: bool = option(False, "Add <key>.normal.png to each pair.", flag="--with-normal")
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PackOptions(Checked):
    """What is packed, and where it goes."""

    source: str
    out: str = option(help=OUT, metavar="DIR")
    dataset: str = option("", "Name of the dataset.", metavar="NAME", shown="DIR's name")
    shard_size: int = option(1000, "Images in a shard.", low=1, high=1_000_000)

    def __post_init__(self) -> None:
        """Refuses values that make no shards."""
        super().__post_init__()
        _require(
            "/" not in self.dataset and self.dataset not in {".", ".."},
            f"--dataset {self.dataset!r}: expected a name, not a path",
        )


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions(Checked):
    """Who runs the shards. None means: chosen from what the machine or the cluster has."""

    executor: str = option(
        "ray",
        "ray: a pool of workers, here or on a cluster; local: this process.",
        choices=EXECUTORS,
        shown="ray; for pairs and packed files local, unless workers are asked for",
    )
    workers: int | None = option(
        None, "Number of workers.", low=1, high=100_000, shown="as many as fit"
    )
    num_cpus: float | None = option(None, "CPUs for each worker.", above=0, shown="--threads")
    num_gpus: float | None = option(
        None,
        "GPUs for each worker, may be a fraction.",
        low=0,
        shown="1 if there are any; 0 for pairs and packed files",
    )
    address: str | None = option(None, "A running Ray cluster; auto finds it.", metavar="HOST:PORT")
    device: str = shared_options.device()
    attempts: int = option(
        3, "Workers that a shard may cost before it goes into quarantine.", low=1
    )
    deadline: float = option(
        1800.0,
        "A worker without a new batch for so long is killed (Ray only).",
        above=0,
        metavar="SECONDS",
    )
    start_timeout: float = option(
        300.0,
        "A worker that has not loaded its model for so long is killed (Ray only).",
        above=0,
        metavar="SECONDS",
    )
    wait: float = option(
        0.0,
        "Start though no worker fits yet: how long an autoscaling cluster may take.",
        low=0,
        metavar="SECONDS",
    )
    join: bool = option(False, "Share the work with the drivers that are at it already.")
    metrics_file: str = option(
        "",
        "Keep the progress here as Prometheus text (node-exporter's textfile collector).",
        metavar="FILE.prom",
        shown="none",
    )
    metrics_port: int | None = option(
        None, "Serve the same at http://127.0.0.1:PORT/metrics.", low=1, high=65535, metavar="PORT"
    )

    def __post_init__(self) -> None:
        """Refuses values that no executor could use, and Ray's options without Ray."""
        super().__post_init__()
        for name in ("workers", "num_cpus", "num_gpus", "address"):
            value = getattr(self, name)
            if value is not None and self.executor == "local" and (name, value) != ("workers", 1):
                flag = settings(type(self))[name].flag
                raise UserError(
                    f"{flag} {value} needs --executor ray: the local executor is this process"
                )
        _require(
            not self.wait or self.address is not None,
            f"--wait {self.wait:g} needs --address: the cluster that is started here does not grow",
        )


@dataclass(frozen=True, kw_only=True)
class SheetOptions(Checked):
    """What every contact sheet has."""

    out: str = option(help="The contact sheet.", metavar="FILE.png")
    data: str = shared_options.data()
    categories: str = shared_options.categories()
    value_range: tuple[float, float] | None = shared_options.value_range(
        "as the model or the shards say, or measured"
    )
    columns: int = option(6, "Images in a row.", low=1, high=100)
    scale: int = option(2, "Enlarges each pixel.", low=1, high=16)
    seed: int = option(0, "Seed of the sheet.", low=0, high=MAX_SEED)

    def checked_out(self) -> Path:
        """Returns the sheet's path; UserError where it is a folder or no PNG."""
        out = require_local(self.out, "--out")
        if out.suffix.lower() != ".png":
            raise UserError(f"--out {out}: the sheet is a PNG: give a name that ends in .png")
        if out.is_dir():
            raise UserError(f"--out {out} is a folder: give a file name")
        return out


@dataclass(frozen=True, kw_only=True)
class PreviewOptions(SheetOptions):
    """What a sheet of rising strengths shows and where it goes."""

    model: str = like(RunOptions, "model")
    strengths: tuple[float, ...] = option(
        (0.0, 0.1, 0.2),
        "One row for each strength, all rows from the same seeds.",
        low=0,
        metavar="LIST",
        shown="0,0.1,0.2",
    )
    depths: tuple[float, ...] = option(
        (),
        "Add rows of SDAS in place at these depths, beside blending through the same masks.",
        above=0,
        high=1,
        metavar="LIST",
        shown="none",
    )
    steps: int = like(RunOptions, "steps")
    sampler: str = like(RunOptions, "sampler")
    precision: str = like(RunOptions, "precision")
    guidance: str = like(RunOptions, "guidance")
    guidance_scale: float = like(RunOptions, "guidance_scale")
    device: str = shared_options.device()

    def __post_init__(self) -> None:
        """Refuses values that make no sheet, by their names."""
        super().__post_init__()
        if not self.strengths:
            raise UserError("--strengths is empty: give numbers such as 0,0.1,0.2")


@dataclass(frozen=True, kw_only=True)
class MethodPreviewOptions(SheetOptions):
    """What a sheet of methods shows and where it goes. `methods` empty: the foregrounds alone."""

    scale: int = 1  # photographs at 256 pixels need no enlarging
    methods: str = option(
        "",
        "Show these synthesis methods instead: all, or names (sdas,dtd,nsa,cutpaste).",
        metavar="NAMES",
    )
    foregrounds: bool = option(False, "Show where an anomaly may be placed.")
    foreground: str = option("", "Rule or mask folder, in place of the own.", metavar="RULE")
    shards: str = like(SynthesisOptions, "shards")
    textures: str = option("", "Texture folder, for dtd.", metavar="DIR")
    resolution: int = option(256, "Pixels a side, with --methods.", low=16, high=4096)
