"""Cells of a plan on Ray: jobs that several cells need first, then all cells side by side.

OUT must be a folder that every worker sees; a worker needs this package and nothing else.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.reproduce.plan import Job, Plan
from harness.reproduce.work import JobError, cell_state, fail, run_cell, run_job
from sia_gen.core.errors import UserError


def _shared_waves(plan: Plan) -> list[list[Job]]:
    """Returns jobs of more than one cell by their place in the chain: earlier ones come first."""
    used = Counter(
        job.name for cell in plan.cells for job in {j.name: j for j in cell.jobs}.values()
    )
    waves: dict[int, dict[str, Job]] = {}
    for cell in plan.cells:
        for place, job in enumerate(cell.jobs):
            if used[job.name] > 1:
                waves.setdefault(place, {})[job.name] = job
    return [list(waves[place].values()) for place in sorted(waves)]


def run_on_ray(
    out: Path,
    plan: Plan,
    tell: Callable[[str], None],
    *,
    address: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Runs the cells as Ray tasks and returns their states by (row, category, seed)."""
    # Ray's own messages would go to stdout, where the table goes.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    import ray

    out = out.resolve()
    try:
        ray.init(address=address, log_to_driver=False, **({} if address else
                 {"include_dashboard": False}))  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers: {error}") from error
    try:
        have = ray.cluster_resources()
        for name, asked in (("CPU", cpus), ("GPU", gpus)):
            if asked > have.get(name, 0.0):
                raise UserError(f"{asked:g} {name} a cell asked, the cluster has"
                                f" {have.get(name, 0.0):g}")  # fmt: skip
        resources = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 2}

        def job_task(job: Job) -> str:
            try:
                run_job(out, job)
            except JobError as error:
                return str(error)
            return ""

        remote_job = ray.remote(**resources)(job_task)
        remote_cell = ray.remote(**resources)(run_cell)
        broken: dict[str, str] = {}
        for wave in _shared_waves(plan):
            said = ray.get([remote_job.remote(job) for job in wave])
            broken |= {job.name: text for job, text in zip(wave, said, strict=True) if text}
        states: dict[tuple[str, str, int], dict[str, Any]] = {}
        pending = {}
        for cell in plan.cells:
            key = (cell.row, cell.category, cell.seed)
            reason = next((broken[j.name] for j in cell.jobs if j.name in broken), None)
            if reason and cell_state(out, cell).get("state") != "done":
                states[key] = fail(out, cell, reason)
            else:
                pending[remote_cell.remote(out, cell)] = (key, cell)
        tell(f"{len(plan.cells)} cells, {len(pending)} on Ray")
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=5.0)
            for reference in ready:
                key, cell = pending.pop(reference)
                try:
                    states[key] = ray.get(reference)
                except ray.exceptions.RayError as error:
                    lines = str(error).strip().splitlines() or [type(error).__name__]
                    states[key] = fail(out, cell, f"its worker was lost: {lines[-1][:300]}")
                state = states[key]
                said = state.get("reason") or f"{state['seconds']:.0f} s"
                tell(f"[{len(states)}/{len(plan.cells)}] {' · '.join(map(str, key))}:"
                     f" {state['state']}, {said}")  # fmt: skip
        return states
    finally:
        ray.shutdown()
