"""What a checkpoint says of itself, read from its facts alone: no tensor is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detector import models
from detector import run_folder as runfolder
from detector.options import TrainOptions, model_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import current_names
from sia_gen.core.plugins import load as load_plugin
from sia_gen.core.store.files import read_json


def read(path: Path) -> dict[str, Any]:
    """Returns the facts of a checkpoint: its category's folder, or one of its two files."""
    folder = path.parent if path.suffix in {".safetensors", ".json"} else path
    if not folder.is_dir():
        raise UserError(f"{path} does not exist: give RUN/<dataset>/<category>")
    document = folder / runfolder.DOCUMENT
    if not document.is_file():
        unfinished = (folder / runfolder.OPTIONS).is_file()
        why = "its training is not finished" if unfinished else "it is no category of a run"
        raise UserError(f"{folder} holds no {runfolder.DOCUMENT}: {why}")
    facts = read_json(document)
    if not isinstance(facts, dict) or facts.get("kind") != "detector checkpoint":
        raise UserError(f"{document} is no detector's checkpoint")
    facts["options"] = current_names(TrainOptions, facts["options"], str(document))
    return facts


def describe(facts: dict[str, Any]) -> str:
    """Returns the facts as lines of text."""
    options, inputs = facts["options"], facts["inputs"]
    inner = options["options"]
    names = (
        list(facts["parts"].values())[-1]
        if facts.get("parts")
        else ["reconstruction", "segmentation"]
    )
    last = facts["curve"][-1][1:] if facts["curve"] else []
    own = load_plugin(models, options["model"])
    words = own.describe(model_options(own.Options, inner))
    reference = facts["reference"]
    lines = {
        "category": facts["category"],
        "model": f"{options['model']}, recipe {options['recipe']}",
        "backbone": f"{facts['backbone']} (sha256 {facts['backbone_sha256'][:16]})",
        "parts": ", ".join(f"{name} {value}" for name, value in words.items()),
        "parameters": f"{facts['parameters'] / 1e6:.2f} M trained",
        "resolution": f"{options['resolution']} x {options['resolution']}",
        "trained on": f"{inputs['train_images']} normal images, source {options['source']}"
        f" (shards {inputs['shards_sha256'][:16]}), seed {options['seed']}",
        "training": f"{facts['step']} steps of {options['batch_size']}, {facts['seconds']:.0f} s,"
        f" {facts['pairs_per_second']} pairs/s, {facts['precision']} on {facts['device']}",
        "weights of": f"step {facts['chosen']['step']}, rule {facts['chosen']['rule']}",
        "last loss": ", ".join(f"{n} {v:.4f}" for n, v in zip(names, last, strict=False)),
        "threshold from": f"{len(reference['score_max'])} {reference['images']} normal images",
        "file": f"{runfolder.WEIGHTS}, {facts['bytes'] / 1e6:.1f} MB, sha256"
        f" {facts['sha256'][:16]}",
        "code": ", ".join(f"{name} {version}" for name, version in facts["code"].items()),
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())
