"""Trained networks and the states of unfinished trainings, on disk and back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector import exported, models
from detector import run_folder as runfolder
from detector.model import Detector
from detector.options import TrainOptions, model_options, restored
from sia_gen.core.errors import UserError, VerificationError
from sia_gen.core.log import warn
from sia_gen.core.options import current_names
from sia_gen.core.plugins import load as load_plugin
from sia_gen.core.provenance import sha256_bytes, sha256_file
from sia_gen.core.store.files import (
    new_folder,
    read_json,
    write_bytes,
    write_json,
)
from sia_gen.core.store.held import discard

SCHEMA = 1
KEPT_STATES = 2


def nonfinite(tensors: dict[str, Tensor]) -> list[str]:
    """Returns the names of tensors that hold NaN or infinite values."""
    return [n for n, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]


def publish(folder: Path, model: nn.Module, facts: dict[str, Any]) -> None:
    """Writes the trained network, then its facts; from then on the training is done."""
    from safetensors.torch import save

    tensors = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items()}
    content = save(tensors)
    write_bytes(folder / runfolder.WEIGHTS, content)
    document = {"schema": SCHEMA, "kind": "detector checkpoint", **facts}
    document |= {"bytes": len(content), "sha256": sha256_bytes(content)}
    write_json(folder / runfolder.DOCUMENT, document)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network in eval mode, its training options, and the facts of its checkpoint."""

    model: Detector
    options: TrainOptions
    facts: dict[str, Any]


def read_facts(folder: Path) -> dict[str, Any]:
    """Returns a finished category's checkpoint.json; UserError where there is none to read.

    Of an exported ONNX file the facts that travel in it.
    """
    if folder.suffix == exported.SUFFIX:
        return _checked(exported.read_facts(folder), folder)
    if folder.suffix in {".safetensors", ".json"}:
        folder = folder.parent
    path = folder / runfolder.DOCUMENT
    if not path.is_file():
        state = ": its training is not finished" if (folder / runfolder.OPTIONS).is_file() else ""
        raise UserError(
            f"{folder} holds no {runfolder.DOCUMENT}{state}; `detector train` makes it, and"
            " --model wants RUN/<dataset>/<category>"
        )
    return _checked(read_json(path), path)


def _checked(facts: Any, path: Path) -> dict[str, Any]:
    """Returns facts that are a checkpoint's of this schema, the options under today's names."""
    known = isinstance(facts, dict) and isinstance(facts.get("options"), dict)
    if not known or facts.get("kind") != "detector checkpoint":
        raise UserError(f"{path} is no detector's checkpoint")
    if facts.get("schema") != SCHEMA:
        raise UserError(f"{path}: schema {facts.get('schema')}, this version reads {SCHEMA}")
    facts["options"] = current_names(TrainOptions, facts["options"], str(path))
    return facts


def load(folder: Path, device: torch.device, *, fast: bool = False) -> Trained:
    """Returns the trained network of a category's folder (or of one of its two files), or of an
    exported ONNX file; its file must match its recorded hash.

    With `fast` it comes in its inference form, which gives maps and nothing else.
    """
    if folder.suffix == exported.SUFFIX:
        return _exported(folder, device)
    folder = folder if folder.is_dir() else folder.parent
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    facts = read_facts(folder)
    path = folder / runfolder.WEIGHTS
    if not path.is_file():
        raise UserError(f"{path} does not exist, though {runfolder.DOCUMENT} speaks of it")
    if sha256_file(path) != facts["sha256"]:
        raise VerificationError(
            f"{path} does not match the SHA-256 in its {runfolder.DOCUMENT}: it was cut, changed or"
            " exchanged; train again, or bring back the right file"
        )
    options = restored(facts["options"])
    plugin = load_plugin(models, options.model)
    inner = model_options(plugin.Options, options.options)
    model: Detector = plugin.restore(inner, options.seed, facts)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        what = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path} is not a network of recipe {options.recipe!r} with the recorded options:"
            f" {what}"
        ) from error
    model = model.to(device).eval()
    return Trained(model=model.inference_form() if fast else model, options=options, facts=facts)


def _exported(path: Path, device: torch.device) -> Trained:
    if device.type != "cpu":
        raise UserError(f"{path} is run on the CPU: give --device cpu, or the checkpoint's folder")
    facts = read_facts(path)
    model = exported.Exported(path).eval()
    return Trained(model=model, options=restored(facts["options"]), facts=facts)


def save_state(folder: Path, step: int, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    """Publishes the state after `step` steps and keeps the one before: should the newest be damaged
    later, training goes on from there. UserError on a full disk.
    """
    place = folder / runfolder.STATE / f"step-{step:08}"
    try:
        with new_folder(place) as temporary:
            torch.save(tensors, temporary / "state.pt")
            digest = sha256_file(temporary / "state.pt")
            write_json(temporary / "state.json", {**facts, "step": step, "sha256": digest})
    except (UserError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the training state {place} could not be written ({reason}): free space and give the"
            " same command again; it goes on from the state before"
        ) from error
    for other in sorted(place.parent.iterdir(), reverse=True)[KEPT_STATES:]:
        discard(other)


def load_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns (tensors, facts) of the newest whole state, or None where there is none."""
    states = folder / runfolder.STATE
    if not states.is_dir():
        return None
    damaged = ""
    for path in sorted(states.glob("step-*"), reverse=True):
        try:
            return _read_state(path)
        # What another program's file makes torch raise, is not to be told beforehand.
        except Exception as error:
            damaged = f"{path} cannot be used: {' '.join(str(error).split())[:200]}"
            warn(damaged)
    if damaged:
        raise VerificationError(f"{damaged}; no state before it: remove it to train from the start")
    return None


def _read_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    facts = read_json(path / "state.json")
    if not isinstance(facts, dict) or not {"sha256", "step"} <= set(facts):
        raise UserError("its state.json is not of a training")
    if not (path / "state.pt").is_file():
        raise UserError("it has no state.pt")
    if sha256_file(path / "state.pt") != facts["sha256"]:
        raise UserError("it does not match its recorded SHA-256")
    tensors = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or "model" not in tensors:
        raise UserError("its state.pt is not of a training")
    return tensors, facts


def reopen(folder: Path) -> None:
    """Makes a finished training's checkpoint a state to go on from; its optimiser is a new one."""
    from safetensors.torch import load_file

    facts = read_facts(folder)
    path = folder / runfolder.WEIGHTS
    if sha256_file(path) != facts["sha256"]:
        raise VerificationError(f"{path} does not match its recorded SHA-256: train again")
    save_state(folder, int(facts["step"]), {"model": load_file(path), "best": {}}, facts)


def remove_state(folder: Path) -> None:
    """Removes what only an unfinished training needs."""
    shutil.rmtree(folder / runfolder.STATE, ignore_errors=True)
