"""The demo's runner: order, stages side by side, and what a failure says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.reproduce import demo
from sia_gen.core.errors import IncompleteError, UserError


def recipe(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text)
    return str(path)


def test_stages_beside_run_together_and_the_others_after_them(tmp_path: Path) -> None:
    name = recipe(
        tmp_path,
        """
demo:
  stages:
    - {name: a, command: sia-gen --version, seconds: 1}
    - {name: b, command: harness --version, seconds: 1, beside: true}
    - {name: c, command: "detector info {out}", seconds: 1}
""",
    )
    stages = demo.read_stages(name, tmp_path / "x")
    assert [[s.name for s in group] for group in demo.groups(stages)] == [["a", "b"], ["c"]]
    assert stages[2].command == ("detector", "info", str(tmp_path / "x"))


def test_a_failure_beside_is_named_with_its_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    name = recipe(
        tmp_path,
        f"""
demo:
  stages:
    - {{name: good, command: sia-gen --version, seconds: 1}}
    - {{name: bad, command: "detector info {missing}", seconds: 1, beside: true}}
    - {{name: never, command: harness --version, seconds: 1}}
""",
    )
    with pytest.raises(IncompleteError, match=r"'bad' ended with exit code 2.*detector info"):
        demo.run(name, tmp_path / "x")
    shown = capfd.readouterr()
    assert "sia-gen, version" in shown.out
    assert "never" not in shown.err


def test_the_first_stage_has_none_to_run_beside(tmp_path: Path) -> None:
    name = recipe(
        tmp_path,
        "demo: {stages: [{name: a, command: sia-gen --version, seconds: 1, beside: true}]}",
    )
    with pytest.raises(UserError, match="first stage"):
        demo.read_stages(name, tmp_path)
