"""Threads that wait let others work, unless the user says otherwise."""

from __future__ import annotations

import os

import pytest

from sia_gen.core.errors import run_command


def test_a_command_lets_waiting_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # restored afterwards
    monkeypatch.delenv("OMP_WAIT_POLICY")
    seen: list[str | None] = []
    run_command(lambda: seen.append(os.environ.get("OMP_WAIT_POLICY")))
    assert seen == ["PASSIVE"]


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    run_command(lambda: None)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
