"""States of unfinished trainings: damaged, foreign, half-written; the one before is used."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detector import checkpoint
from sia_gen.core.errors import UserError, VerificationError
from sia_gen.diffusion import checkpoints


def _spoil_json(text: str) -> Callable[[Path, str], None]:
    return lambda state, name: (state / name).write_text(text) and None


def _file_for_folder(state: Path, _name: str) -> None:
    shutil.rmtree(state)
    state.write_text("")


def _foreign_tensors(value: Any) -> Callable[[Path, str], None]:
    def spoil(state: Path, name: str) -> None:
        torch.save(value, state / "state.pt")
        from sia_gen.core.provenance import sha256_file
        from sia_gen.core.store.files import read_json, write_json

        write_json(
            state / name, {**read_json(state / name), "sha256": sha256_file(state / "state.pt")}
        )

    return spoil


DAMAGE: dict[str, Callable[[Path, str], None]] = {
    "no facts": lambda state, name: (state / name).unlink(),
    "a list": _spoil_json("[]"),
    "an empty object": _spoil_json("{}"),
    "a number": _spoil_json("5"),
    "torn": _spoil_json('{"st'),
    "no tensors": lambda state, _: (state / "state.pt").unlink(),
    "torn tensors": lambda state, _: (state / "state.pt").write_bytes(b"PK") and None,
    "a file": _file_for_folder,
    "a foreign list": _foreign_tensors([1]),
    "a foreign object": _foreign_tensors({"x": torch.zeros(1)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_state_before_a_damaged_one_is_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        checkpoint.save_state(tmp_path, step, {"model": {"w": torch.full((2,), step)}}, {"a": 1})
    states = sorted((tmp_path / "state").iterdir())
    assert [p.name for p in states] == ["step-00000002", "step-00000003"]
    DAMAGE[damage](states[-1], "state.json")
    found = checkpoint.load_state(tmp_path)
    assert found is not None and found[1]["step"] == 2
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {states[-1]} cannot be used: ") and said.count("\n") == 1
    DAMAGE[damage](states[0], "state.json")
    with pytest.raises(VerificationError, match="remove it to train from the start"):
        checkpoint.load_state(tmp_path)


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_same_holds_for_the_diffusion_model(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = dict.fromkeys(checkpoints.KEYS, 0)
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, step, {**state, "step": step}, keep=2)
    states = sorted(tmp_path.iterdir())
    DAMAGE[damage](states[-1], "checkpoint.json")
    found = checkpoints.load_newest(tmp_path)
    assert found is not None and found["step"] == 2
    assert "is skipped" in capsys.readouterr().err
    DAMAGE[damage](states[0], "checkpoint.json")
    assert checkpoints.load_newest(tmp_path) is None
    checkpoints.save(tmp_path, 3, {**state, "step": 3}, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000003"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_told_and_the_state_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    checkpoint.save_state(tmp_path / "a", 1, {"model": {}}, {})
    checkpoints.save(tmp_path / "b", 1, dict.fromkeys(checkpoints.KEYS, 0), keep=2)

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"could not be written .*goes on from the state before"):
        checkpoint.save_state(tmp_path / "a", 2, {"model": {}}, {})
    with pytest.raises(UserError, match=r"could not be written .*goes on from the state before"):
        checkpoints.save(tmp_path / "b", 2, {}, keep=2)
    found = checkpoint.load_state(tmp_path / "a")
    assert found is not None and found[1]["step"] == 1
    assert (checkpoints.load_newest(tmp_path / "b") or {})["step"] == 0
    assert not [p for p in tmp_path.rglob(".tmp-*")]
