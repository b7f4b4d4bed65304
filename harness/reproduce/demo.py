"""The whole pipeline as a list of commands: what `make demo` runs, as a user would type it.

Every stage is a command line of this project and resumes by itself; running the demo again
therefore passes finished stages in seconds. Small networks gain little from a second thread and
lose much where other work shares the cores: stages that need not wait for each other run side by
side, each with its part of the cores.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness.processes import MODULES, program_of, start
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.log import say
from sia_gen.core.recipes import read_recipe


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the demo; `seconds` is what it took where it was measured (2 CPU cores).

    A stage `beside` runs together with the one before it.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    beside: bool = False


def read_stages(recipe: str, out: Path) -> list[Stage]:
    """Returns the stages of a recipe, `{out}` in their commands replaced by the run's folder."""
    stages = []
    for entry in read_recipe(recipe, "demo")["stages"]:
        words = [word.replace("{out}", str(out)) for word in shlex.split(entry["command"])]
        if words[0] not in MODULES:
            raise UserError(f"recipe {recipe}: {words[0]!r} is no command of this project")
        stages.append(
            Stage(
                name=entry["name"],
                command=tuple(words),
                seconds=float(entry["seconds"]),
                beside=bool(entry.get("beside", False)),
            )
        )
    if stages and stages[0].beside:
        raise UserError(f"recipe {recipe}: the first stage has none before it to run beside")
    return stages


def groups(stages: list[Stage]) -> list[list[Stage]]:
    """Returns the stages in order, those that run side by side together."""
    together: list[list[Stage]] = []
    for stage in stages:
        if stage.beside:
            together[-1].append(stage)
        else:
            together.append([stage])
    return together


def _run_together(group: list[Stage]) -> list[int]:
    """Runs stages side by side, each with its share of the cores, and returns their exit codes."""
    threads = max(1, (os.cpu_count() or 1) // len(group))
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    running: list[subprocess.Popen[str]] = []
    try:
        for stage in group:
            running.append(start(program_of(stage.command), env=environment))
        return [process.wait() for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()


def run(recipe: str, out: Path) -> None:
    """Runs the stages in order; the first failure stops, naming the command to run by hand."""
    stages = read_stages(recipe, out)
    began = time.monotonic()
    pace = 1.0
    expected_so_far = 0.0
    number = 0
    planned = groups(stages)
    for at, group in enumerate(planned):
        left = sum(max(s.seconds for s in g) for g in planned[at:]) * pace
        for stage in group:
            number += 1
            say(f"\n[{number}/{len(stages)}] {stage.name}  (about {left / 60:.1f} min left)")
            say(f"  $ {shlex.join(stage.command)}")
        for stage, code in zip(group, _run_together(group), strict=True):
            if code != 0:
                raise IncompleteError(
                    f"stage {stage.name!r} ended with exit code {code}; mend the cause and run the"
                    f" demo again, it resumes. The command was: {shlex.join(stage.command)}"
                )
        expected_so_far += max(stage.seconds for stage in group)
        pace = (time.monotonic() - began) / max(expected_so_far, 1e-9)
    say(f"\ndone in {(time.monotonic() - began) / 60:.1f} min")
