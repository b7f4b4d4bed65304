"""What commands tell on stderr: text, or a JSON object a line with a timestamp."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sia_gen.core import log


@pytest.fixture
def as_json() -> Iterator[None]:
    """What this process tells is JSON meanwhile."""
    log.use("json")
    yield
    log.use("text")


@pytest.mark.usefixtures("as_json")
def test_a_line_is_an_object_with_time_level_message_and_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.say("two\nlines \x1b[31m", images=3, rate=0.5)
    log.warn("slow")
    log.fail("no such folder", exit_code=2)
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["level"] for one in found] == ["info", "warning", "error"]
    assert found[0]["message"] == "two\nlines \x1b[31m"
    assert (found[0]["images"], found[0]["rate"], found[2]["exit_code"]) == (3, 0.5, 2)
    told = datetime.fromisoformat(found[0]["time"])
    assert abs((datetime.now(UTC) - told).total_seconds()) < 60


def test_other_libraries_come_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    log.use("json")
    try:
        logging.getLogger("some.library").warning("of %s", "its own")
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("old", UserWarning, stacklevel=1)
    finally:
        log.use("text")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["message"], first["logger"], first["level"]) == (
        "of its own",
        "some.library",
        "warning",
    )
    assert "UserWarning: old" in second["message"]
    log.warn("as before")
    assert capsys.readouterr().err == "warning: as before\n"


def test_a_command_that_fails_says_so_in_the_form_that_was_asked_for(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sia_gen.cli", "status", str(tmp_path / "nowhere")]
    done = subprocess.run([*words, "--log-format", "json"], capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    found = json.loads(line)
    assert done.returncode == 2
    assert (found["level"], found["exit_code"]) == ("error", 2) and "nowhere" in found["message"]
