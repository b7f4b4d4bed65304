"""Everything that only a GPU can show, in stages of falling worth, within a budget of minutes.

    python benchmarks/gpu.py --budget 10 --out runs/gpu            # on a machine with a GPU
    python benchmarks/gpu.py --budget 10 --dry-run                 # the plan, and what is missing
    python benchmarks/gpu.py --small --out DIR                     # every stage in small, on a CPU

Each stage is a process of its own with its own time limit: what it has measured is on disk when it
is cut (OUT/STAGE.jsonl, a row a measurement), and the table (OUT/results.md, OUT/results.json) is
written again after each. Nothing is downloaded, Ray is not used, weights are random: speed does not
depend on them. The same command again measures only the stages that have no complete result.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

# What a plain GPU machine must have; the wheels that it lacks are to be brought along.
NEEDED = [
    "torch",
    "torchvision",
    "diffusers",
    "timm",
    "accelerate",
    "safetensors",
    "numpy",
    "scipy",
    "PIL",
    "yaml",
    "click",
    "tqdm",
    "fsspec",
    "jsonschema",
    "jinja2",
    "skimage",
    "filelock",
]
HERE = Path(__file__).resolve().parent
START = 20.0  # seconds that a process needs before it measures: imports, the GPU's context


@dataclass(frozen=True)
class Stage:
    """A stage's name, its share of the budget, and what it measures."""

    name: str
    share: float
    about: str


# In order of worth. What a stage leaves of its time goes to the later ones.
STAGES = (
    Stage("machine", 0.05, "matrix rates, memory bandwidth, versions"),
    Stage("sampling", 0.27, "adm-256: images/s and share of the matrix rate by batch and form"),
    Stage("realnet", 0.20, "RealNet's training and inference beside the plain implementation"),
    Stage("redi", 0.08, "ReDi's and RD's training steps and inference"),
    Stage("diffusion", 0.15, "diffusion training: adm-256 and small-128, memory against estimate"),
    Stage("feeding", 0.10, "pair generators and readers: does the host feed the GPU?"),
    Stage("shipped", 0.15, "the shipped model's recipe for the minutes that are left"),
)


def missing_packages() -> list[str]:
    """Returns the names of the packages that this machine lacks."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def limits(budget: float, done: set[str]) -> dict[str, float]:
    """Returns each open stage's time limit in seconds: its share of the whole budget."""
    open_stages = [stage for stage in STAGES if stage.name not in done]
    total = sum(stage.share for stage in open_stages)
    return {stage.name: 60.0 * budget * stage.share / total for stage in open_stages}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the measurements of a stage so far; a line that a kill cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def table(out: Path) -> str:
    """Returns all measurements so far as Markdown."""
    lines = ["# Measured on one machine in one run", "", f"`python {' '.join(sys.argv)}`", ""]
    for stage in STAGES:
        rows = read_rows(out / f"{stage.name}.jsonl")
        lines += [f"## {stage.name}: {stage.about}", ""]
        if not rows:
            lines += ["Not measured.", ""]
            continue
        for row in rows:
            facts = ", ".join(f"{k} {v}" for k, v in row.items() if k != "what")
            lines.append(f"- {row['what']}: {facts}")
        lines.append("")
    return "\n".join(lines)


def write_results(out: Path) -> None:
    """Writes what has been measured so far, as JSON and as a table."""
    rows = {stage.name: read_rows(out / f"{stage.name}.jsonl") for stage in STAGES}
    (out / "results.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    (out / "results.md").write_text(table(out), encoding="utf-8")


def finished(out: Path) -> set[str]:
    """Returns the stages that ended by themselves in an earlier call."""
    return {
        stage.name
        for stage in STAGES
        if any(r["what"] == "stage ended" for r in read_rows(out / f"{stage.name}.jsonl"))
    }


def run_stage(name: str, out: Path, limit: float, small: bool) -> str:
    """Runs one stage in a process of its own; returns how it ended."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--stage", name, "--out", str(out)]
    command += ["--limit", str(limit), *(["--small"] if small else [])]
    (out / f"{name}.jsonl").unlink(missing_ok=True)
    path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    with (out / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            code = process.wait(timeout=limit)
            ended = "done" if code == 0 else f"failed ({code}), see {name}.log"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended = "cut by its limit"
    return f"{ended} after {time.monotonic() - began:.0f} s"


def recorder(out: Path, name: str) -> Callable[..., None]:
    """Returns what appends one measurement to a stage's file, whole, at once."""
    path = out / f"{name}.jsonl"

    def record(what: str, **facts: Any) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **facts}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(what, facts, flush=True)

    return record


def print_plan(budget: float, small: bool) -> None:
    """Prints the stages with their limits, and what this machine lacks."""
    print(f"{budget:g} minutes{', in small on the CPU' if small else ''}:")
    for stage in STAGES:
        print(f"  {limits(budget, set())[stage.name]:5.0f} s  {stage.name:10} {stage.about}")
    lacking = missing_packages()
    print(f"missing here: {', '.join(lacking) if lacking else 'nothing'}")


@click.command()
@click.option("--budget", default=10.0, show_default=True, help="Minutes for all stages.")
@click.option("--out", type=click.Path(path_type=Path), default="runs/gpu", show_default=True)
@click.option("--only", multiple=True, type=click.Choice([s.name for s in STAGES]))
@click.option("--small", is_flag=True, help="Every stage in small, on the CPU.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--stage", hidden=True)
@click.option("--limit", type=float, default=0.0, hidden=True)
def main(
    budget: float,
    out: Path,
    only: tuple[str, ...],
    small: bool,
    dry_run: bool,
    stage: str | None,
    limit: float,
) -> None:
    """Measure what only a GPU can show."""
    if dry_run:
        print_plan(budget, small)
        return
    lacking = missing_packages()
    if lacking:
        raise click.UsageError(f"missing packages: {', '.join(lacking)}; bring their wheels along")
    if stage is not None:
        from gpu_stages import run

        run(stage, recorder(out, stage), small=small, deadline=time.monotonic() + limit - START)
        return
    if not small:
        import torch

        if not torch.cuda.is_available():
            raise click.UsageError("no GPU here: give --small to run every stage on the CPU")
    out.mkdir(parents=True, exist_ok=True)
    done = set() if small else finished(out)
    until = time.monotonic() + 60 * budget
    for entry in STAGES:
        if entry.name in done or (only and entry.name not in only):
            continue
        left = (until - time.monotonic()) / 60
        limit = limits(left, done).get(entry.name, 0.0)
        if limit < 5:
            print(f"{entry.name}: no time is left", flush=True)
            continue
        print(f"{entry.name}: {run_stage(entry.name, out, limit, small)}", flush=True)
        done.add(entry.name)
        write_results(out)
    print(out / "results.md")


if __name__ == "__main__":
    main()
