"""Trained networks and the states of unfinished trainings, on disk and back."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector import models
from detector.model import Detector
from detector.options import TrainOptions, model_options, restored
from detector.training import run_folder as runfolder
from sia_gen.core.errors import UserError, VerificationError
from sia_gen.core.options import current_names
from sia_gen.core.plugins import load as load_plugin
from sia_gen.core.provenance import sha256_bytes, sha256_file
from sia_gen.core.store.files import (
    TEMPORARY_PREFIX,
    new_folder,
    read_json,
    write_bytes,
    write_json,
)

SCHEMA = 1


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
    """Returns a finished category's checkpoint.json; UserError where there is none to read."""
    if folder.suffix in {".safetensors", ".json"}:
        folder = folder.parent
    path = folder / runfolder.DOCUMENT
    if not path.is_file():
        state = ": its training is not finished" if (folder / runfolder.OPTIONS).is_file() else ""
        raise UserError(
            f"{folder} holds no {runfolder.DOCUMENT}{state}; `detector train` makes it, and"
            " --model wants RUN/<dataset>/<category>"
        )
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("kind") != "detector checkpoint":
        raise UserError(f"{path} is no detector's checkpoint")
    if facts.get("schema") != SCHEMA:
        raise UserError(f"{path}: schema {facts.get('schema')}, this version reads {SCHEMA}")
    facts["options"] = current_names(TrainOptions, facts["options"], str(path))
    return facts


def load(folder: Path, device: torch.device, *, fast: bool = False) -> Trained:
    """Returns the trained network of a category's folder; its file must match its recorded hash.

    With `fast` it comes in its inference form, which gives maps and nothing else.
    """
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


def save_state(folder: Path, step: int, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    """Publishes the state after `step` steps, then removes the one before: one is always whole."""
    states = folder / runfolder.STATE
    with new_folder(states / f"step-{step:08}") as temporary:
        torch.save(tensors, temporary / "state.pt")
        digest = sha256_file(temporary / "state.pt")
        write_json(temporary / "state.json", {**facts, "step": step, "sha256": digest})
    for other in states.iterdir():
        if other.name != f"step-{step:08}":
            shutil.rmtree(other)


def load_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns (tensors, facts) of the newest whole state, or None where there is none."""
    states = folder / runfolder.STATE
    if not states.is_dir():
        return None
    for path in sorted(states.iterdir(), reverse=True):
        if path.name.startswith(TEMPORARY_PREFIX) or not (path / "state.json").is_file():
            continue
        facts = read_json(path / "state.json")
        if sha256_file(path / "state.pt") != facts["sha256"]:
            raise VerificationError(
                f"{path} does not match its recorded SHA-256: remove it to train from the start"
            )
        return torch.load(path / "state.pt", map_location="cpu", weights_only=True), facts
    return None


def remove_state(folder: Path) -> None:
    """Removes what only an unfinished training needs."""
    shutil.rmtree(folder / runfolder.STATE, ignore_errors=True)


def hash_state(model: nn.Module) -> str:
    """Returns the SHA-256 of a network's tensors, by name: equal networks give equal hashes."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
