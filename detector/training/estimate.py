"""How long a training takes and what it holds: from finished trainings, or from a few steps."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from detector import run_folder as runfolder
from detector.options import HARMLESS, TrainOptions
from detector.training.tasks import Job, Plan
from sia_gen.core.options import current_names
from sia_gen.core.store.files import read_json

STEPS = 12  # of a warm-up
BUDGET = {"steps", "epochs", "patience", "protocol", "seed", "recipe", *HARMLESS}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What was measured: pairs a second, peak memory in MiB, and on what."""

    pairs_per_second: float
    memory_mib: int
    measured_on: str


def _alike(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in BUDGET}


def from_earlier(out: Path, options: TrainOptions) -> Pace | None:
    """Returns the pace of a finished training below `out` of the same options, or None."""
    wanted = _alike(asdict(options))
    for path in sorted(out.glob(f"*/*/{runfolder.DOCUMENT}")):
        facts = read_json(path)
        if _alike(current_names(TrainOptions, facts["options"], str(path))) == wanted:
            return Pace(
                pairs_per_second=float(facts["pairs_per_second"]),
                memory_mib=int(facts["peak_memory_mib"]),
                measured_on=f"the finished training of {facts['category']}",
            )
    return None


def warm_up(plan: Plan) -> Pace:
    """Returns the pace of a few steps of the first training, made in a folder that goes away."""
    from detector.training.train import accelerator_for, train

    options = replace(plan.options, steps=STEPS, epochs=0, patience=0, protocol="last")
    with tempfile.TemporaryDirectory() as folder:
        accelerator = accelerator_for(plan.device, options.precision)
        facts = train(options, plan.jobs[0].task, Path(folder), accelerator)
    return Pace(
        pairs_per_second=float(facts["pairs_per_second"]),
        memory_mib=int(facts["peak_memory_mib"]),
        measured_on=f"{STEPS} steps on {facts['device']}",
    )


def describe(job: Job, plan: Plan, out: Path, pace: Pace | None) -> dict[str, Any]:
    """Returns what a training would be: its steps, images, state, and its seconds if known."""
    images = int(job.document["inputs"]["train_images"])
    steps = plan.options.total_steps(images)
    pairs = steps * plan.options.each
    return {
        "category": job.task.key,
        "folder": str(runfolder.folder_of(out, job.task)),
        "state": job.state,
        "train_images": images,
        "steps": steps,
        "seconds_estimated": None if pace is None else round(pairs / pace.pairs_per_second, 1),
    }
