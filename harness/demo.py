"""The whole pipeline as a list of commands: what `make demo` runs, as a user would type it.

Every stage is a command line of this project and resumes by itself; running the demo again
therefore passes finished stages in seconds.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.recipes import read_recipe

MODULES = {"sia-gen": "sia_gen.cli", "detector": "detector.cli", "harness": "harness.cli"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the demo; `seconds` is what it took where it was measured (2 CPU cores)."""

    name: str
    command: tuple[str, ...]
    seconds: float


def read_stages(recipe: str, out: Path) -> list[Stage]:
    """Returns the stages of a recipe, `{out}` in their commands replaced by the run's folder."""
    stages = []
    for entry in read_recipe(recipe, "demo")["stages"]:
        words = [word.replace("{out}", str(out)) for word in shlex.split(entry["command"])]
        if words[0] not in MODULES:
            raise UserError(f"recipe {recipe}: {words[0]!r} is no command of this project")
        stages.append(
            Stage(name=entry["name"], command=tuple(words), seconds=float(entry["seconds"]))
        )
    return stages


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(recipe: str, out: Path) -> None:
    """Runs the stages in order; the first failure stops, naming the command to run by hand."""
    stages = read_stages(recipe, out)
    began = time.monotonic()
    pace = 1.0
    expected_so_far = 0.0
    for number, stage in enumerate(stages, 1):
        left = sum(s.seconds for s in stages[number - 1 :]) * pace
        _line(f"\n[{number}/{len(stages)}] {stage.name}  (about {left / 60:.1f} min left)")
        _line(f"  $ {shlex.join(stage.command)}")
        program = [sys.executable, "-m", MODULES[stage.command[0]], *stage.command[1:]]
        code = subprocess.run(program, check=False).returncode
        if code != 0:
            raise IncompleteError(
                f"stage {stage.name!r} ended with exit code {code}; mend the cause and run the demo"
                f" again, it resumes. The command was: {shlex.join(stage.command)}"
            )
        expected_so_far += stage.seconds
        pace = (time.monotonic() - began) / max(expected_so_far, 1e-9)
    _line(f"\ndone in {(time.monotonic() - began) / 60:.1f} min")
