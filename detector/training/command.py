"""Trains what was planned, one task after the other, and says what came of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detector import run_folder as runfolder
from detector.checkpoint import read_facts
from detector.training import advice
from detector.training.tasks import Plan
from detector.training.train import accelerator_for, train
from sia_gen.core.signals import StopFlag


def run(plan: Plan, out: Path, tell: Callable[[str], None]) -> list[dict[str, Any]] | None:
    """Trains what is not trained yet and returns a summary of all; None on a helping process.

    Raises StoppedTrainingError after a signal: the state is kept, and the same command goes on.
    """
    summary = []
    accelerator = None
    stop = StopFlag()
    for job in plan.jobs:
        if job.state == "finished":
            facts = read_facts(runfolder.folder_of(out, job.task))
            tell(f"{job.task.key}: trained before, nothing to do")
        else:
            accelerator = accelerator or accelerator_for(
                plan.device, plan.options.precision, plan.options.report_to, out
            )
            stop.install()
            try:
                facts = train(plan.options, job.task, out, accelerator, stop=stop)
            finally:
                stop.restore()
            if accelerator.is_main_process:
                tell(
                    f"{job.task.key}: {facts['step']} steps in {facts['seconds']:.0f} s,"
                    f" {facts['pairs_per_second']:.1f} pairs/s"
                )
                tell(f"{job.task.key}: {advice.after(facts)}")
        summary.append(
            {
                "category": job.task.key,
                "folder": str(runfolder.folder_of(out, job.task)),
                "steps": facts["step"],
                "seconds": round(facts["seconds"], 1),
                "pairs_per_second": facts["pairs_per_second"],
                "checkpoint_sha256": facts["sha256"],
            }
        )
    return summary if accelerator is None or accelerator.is_main_process else None
