"""Checkpoints of a run: written whole or not at all, checked when read, the last few kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from sia_gen.core.errors import UserError
from sia_gen.core.log import warn
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.files import new_folder, read_json, write_json
from sia_gen.core.store.held import discard

KEYS = {"step", "seconds", "network", "optimizer", "ema"}


def _folders(root: Path) -> list[Path]:
    """Returns the checkpoint folders below root, newest first."""
    return sorted(root.glob("step-*"), reverse=True) if root.is_dir() else []


def save(root: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Publishes a state of tensors and plain values as root/step-NNNNNNN; prunes older ones."""
    folder = root / f"step-{step:07}"
    try:
        with new_folder(folder) as temporary:
            torch.save(state, temporary / "state.pt")
            facts = {"step": step, "sha256": sha256_file(temporary / "state.pt")}
            write_json(temporary / "checkpoint.json", facts)
    except (UserError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        raise UserError(not_written(folder, error)) from error
    for old in _folders(root)[keep:]:
        discard(old)
    # What a killed run left half-written.
    for torn in root.glob(".tmp-*"):
        discard(torn)
    return folder


def not_written(folder: Path, error: Exception) -> str:
    """Returns what is said where a state could not be written."""
    free = shutil.disk_usage(folder.parent).free / 2**20 if folder.parent.is_dir() else 0
    reason = " ".join(str(error).split())[:200]
    return (
        f"the training state {folder} could not be written ({reason}; {free:.0f} MiB are free):"
        " free space and give the same command again; it goes on from the state before"
    )


def load_newest(root: Path) -> dict[str, Any] | None:
    """Returns the newest whole state, on the CPU, or None; damaged ones are named and skipped."""
    for folder in _folders(root):
        try:
            facts = read_json(folder / "checkpoint.json")
            if not isinstance(facts, dict) or sha256_file(folder / "state.pt") != facts["sha256"]:
                raise UserError("its contents do not match its checksum")
            state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
            lacking = KEYS - set(state) if isinstance(state, dict) else KEYS
            if lacking:
                raise UserError(f"it is no state of a training: it lacks {', '.join(lacking)}")
            return dict(state)
        # What another program's file makes torch raise, is not to be told beforehand.
        except Exception as error:
            warn(f"checkpoint {folder} is skipped: {error}")
    return None
