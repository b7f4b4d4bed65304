"""Checkpoints of a run: written whole or not at all, checked when read, the last few kept."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.files import new_folder, read_json, write_json


def _folders(root: Path) -> list[Path]:
    """Returns the checkpoint folders below root, newest first."""
    return sorted(root.glob("step-*"), reverse=True) if root.is_dir() else []


def save(root: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Publishes a state of tensors and plain values as root/step-NNNNNNN; prunes older ones."""
    folder = root / f"step-{step:07}"
    with new_folder(folder) as temporary:
        torch.save(state, temporary / "state.pt")
        facts = {"step": step, "sha256": sha256_file(temporary / "state.pt")}
        write_json(temporary / "checkpoint.json", facts)
    for old in _folders(root)[keep:]:
        shutil.rmtree(old)
    # What a killed run left half-written.
    for torn in root.glob(".tmp-*"):
        shutil.rmtree(torn, ignore_errors=True)
    return folder


def load_newest(root: Path) -> dict[str, Any] | None:
    """Returns the newest whole state, on the CPU, or None; damaged ones are named and skipped."""
    for folder in _folders(root):
        try:
            expected = read_json(folder / "checkpoint.json")["sha256"]
            if sha256_file(folder / "state.pt") != expected:
                raise UserError("its contents do not match its checksum")
            return dict(torch.load(folder / "state.pt", map_location="cpu", weights_only=True))
        except (UserError, OSError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
            print(f"warning: checkpoint {folder} is skipped: {error}", file=sys.stderr)
    return None
