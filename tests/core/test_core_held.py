"""One process a folder, and folders that are published whole or not at all."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from sia_gen.core.errors import LockedError, UserError
from sia_gen.core.store.files import new_folder
from sia_gen.core.store.held import held


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with held(place):
        code = "from pathlib import Path\nfrom sia_gen.core.store.held import held\n"
        code += f"with held(Path({str(place)!r})):\n    pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert other.returncode == 1 and "LockedError" in other.stderr
        with pytest.raises(LockedError, match="in use by another run"), held(place):
            pass
    with held(place):
        pass


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-unmeasured-12-ab" / "unet").mkdir(parents=True)
    (tmp_path / ".tmp-x").write_text("")
    with held(tmp_path):
        assert {p.name for p in tmp_path.iterdir()} <= {".lock", ".lock.holder"}


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot write to"), held(tmp_path / "run"):
        pass


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("old")
    with (
        pytest.raises(UserError, match=r"cannot write .*No space left"),
        new_folder(tmp_path / "a"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "a/x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("foreign")
    with new_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("new")
    assert (tmp_path / "a/x").read_text() == "new"
