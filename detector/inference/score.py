"""Scoring: the anomaly maps of a category's test images, published as a score file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import checkpoint, models, scorefile
from detector.data.task import MULTI_CLASS
from detector.options import HARMLESS, model_options
from detector.training import run_folder as runfolder
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image
from sia_gen.core.plugins import load as load_plugin
from sia_gen.core.provenance import hash_options, sha256_file, versions
from sia_gen.core.store.files import read_json

FOLDER = "scores"
PASS = 16  # images scored at a time


def _hash_test(category: Category) -> str:
    """Returns the SHA-256 of the test images and masks, names and contents."""
    listing = [
        [str(e.path.relative_to(category.root)), sha256_file(e.path)]
        + ([sha256_file(e.mask)] if e.mask else [])
        for e in category.test
    ]
    return hash_options(listing)


def _own_words(options: dict[str, Any]) -> dict[str, Any]:
    plugin = load_plugin(models, str(options["model"]))
    found: dict[str, Any] = plugin.describe(model_options(plugin.Options, options["options"]))
    return found


def _image_scores(map_HW: npt.NDArray[np.float32], own: str) -> dict[str, float]:
    """Returns an image's scores; `score_own` where the recipe decides by another than the max."""
    found = scorefile.image_scores(map_HW)
    return found | ({"score_own": found[f"score_{own}"]} if own != "max" else {})


def protocol_of(facts: dict[str, Any]) -> dict[str, Any]:
    """Returns what must agree between results of one row: all that made a score, but its run."""
    options = dict(facts["options"])
    inner = dict(options["options"])
    source, own = str(options["source"]), str(options.get("image_score", "max"))
    named = [n for n in ("steps", "epochs", "budget_minutes") if options.get(n)]
    budget = {name: options[name] for name in named}
    rule = str(facts.get("chosen", {}).get("rule", "last"))
    if facts["step"] < facts.get("total", facts["step"]) and rule == "last":
        rule = f"step {facts['step']} of {facts['total']}"  # kept on the way
    unlike = {"options", "methods", "seed", *HARMLESS}
    asked = {k: v for k, v in options.items() if k not in unlike}
    # The hash names them as it always did: an earlier record and a new one stay one row.
    asked |= {"batch": asked.pop("batch_size"), "lr": asked.pop("learning_rate")}
    asked["weights_sha256"] = facts["inputs"]["weights_sha256"]
    if asked["weights_sha256"] != "none":
        inner.pop("weights")  # a file is known by its content, wherever it lay
    return {
        "detector": str(options["model"]),
        "recipe": str(options["recipe"]),
        "options_sha256": hash_options({**asked, **inner}),
        "checkpoint_rule": rule,
        "image_scores": ["max", "avgpool16_max", *(["own"] if own != "max" else [])],
        **({"image_score": own} if own != "max" else {}),
        "resolution": int(options["resolution"]),
        "backbone": str(facts["backbone"]),
        "backbone_sha256": str(facts["backbone_sha256"]),
        "source": source,
        **({"multi_class": facts["categories"]} if len(facts.get("categories", ())) > 1 else {}),
        "synthesis": facts["inputs"].get("synthesis", []),
        "methods": facts["inputs"].get("methods", {}),
        "batch": int(options["batch_size"]),
        "lr": float(options["learning_rate"]),
        "schedule": str(options["schedule"]),
        **budget,
        **_own_words(options),
        "training_precision": str(facts["precision"]),
        "code_version": versions()["sia-gen"],
    }


def model_folder(run: Path, category: Category) -> Path:
    """Returns the folder of the checkpoint that speaks of a category: its own, else the one of all.

    UserError where neither is there.
    """
    own = runfolder.folder_of(run, category)
    shared = run / category.dataset / MULTI_CLASS
    if (own / runfolder.DOCUMENT).is_file() or not (shared / runfolder.DOCUMENT).is_file():
        checkpoint.read_facts(own)
        return own
    if category.key not in checkpoint.read_facts(shared)["categories"]:
        raise UserError(f"{shared} was not trained on {category.key}")
    return shared


def kept_folder(folder: Path, step: int) -> Path:
    """Returns the folder of a checkpoint that training kept; UserError names those that are."""
    found = folder / runfolder.KEPT / f"step-{step:08}"
    if not (found / runfolder.DOCUMENT).is_file():
        kept = [int(p.name[5:]) for p in sorted((folder / runfolder.KEPT).glob("step-*"))]
        raise UserError(
            f"{folder} kept no step {step}, but {kept or 'none'}: `detector train --keep-every N`"
        )
    return found


def is_scored(folder: Path, category: Category, facts: dict[str, Any], precision: str) -> bool:
    """Returns whether the folder holds the scores of this very checkpoint and test set."""
    path = folder / FOLDER / "scores.json"
    if not path.is_file():
        return False
    protocol, run = scorefile.stated(read_json(path), str(path))
    return (
        run.get("checkpoint_sha256") == facts["sha256"]
        and protocol.get("scoring_precision") == precision
        and run.get("test_sha256") == _hash_test(category)
        and protocol.get("code_version") == versions()["sia-gen"]
    )


def score(
    run: Path,
    category: Category,
    device_name: str,
    *,
    force: bool = False,
    precision: str = "fp32",
    step: int | None = None,
) -> bool:
    """Scores one category's test images; False where that was done before and is left alone.

    `step` takes a checkpoint that training kept on its way; its scores lie in its own folder.
    """
    folder = runfolder.folder_of(run, category)
    source = model_folder(run, category)
    if step is not None:
        if source != folder:
            raise UserError(f"{source} is a model of several categories: score its last step")
        folder = source = kept_folder(source, step)
    facts = checkpoint.read_facts(source)
    if category.key not in facts.get("categories", [facts["category"]]):
        raise UserError(f"{folder} was trained on {facts['category']}, not on {category.key}")
    if not category.test:
        raise UserError(f"{category.root} has no test images: expected {category.root}/test/...")
    if not force and is_scored(folder, category, facts, precision):
        return False
    import torch

    from detector.inference.maps import anomaly_maps
    from sia_gen.compute import device as devices

    device = devices.choose_device(device_name)
    devices.choose_precision(precision, device)
    trained = checkpoint.load(source, device, fast=True)
    resolution = trained.options.resolution
    maps, seconds = [], 0.0
    for start in range(0, len(category.test), PASS):
        part = category.test[start : start + PASS]
        images = np.stack([read_image(e.path, resolution) for e in part])
        began = time.perf_counter()
        maps.append(anomaly_maps(trained.model, images, device, precision))
        seconds += time.perf_counter() - began
    maps_NHW = np.concatenate(maps)
    empty = np.zeros((resolution, resolution), dtype=np.bool_)
    drawn = [e.read_mask(resolution) for e in category.test]
    masks = [empty if mask is None else mask for mask in drawn]
    items = [
        {
            "path": str(example.path),
            "defect": example.defect,
            "anomalous": example.anomalous,
            "has_mask": example.mask is not None,
            **_image_scores(map_HW, trained.options.image_score),
        }
        for example, map_HW in zip(category.test, maps_NHW, strict=True)
    ]
    protocol = protocol_of(facts) | {"scoring_precision": precision}
    run_facts = {
        "seed": int(facts["options"]["seed"]),
        "checkpoint_sha256": str(facts["sha256"]),
        "source_run_sha256": str(facts["inputs"]["shards_sha256"]),
        "train_images": int(facts["inputs"]["train_images"]),
        "device": str(facts["device"]),
        "test_sha256": _hash_test(category),
        "steps": int(facts["step"]),
        "checkpoint_step": int(facts.get("chosen", {}).get("step", facts["step"])),
        "train_seconds": round(float(facts["seconds"]), 1),
        **{f"train_{k}": round(facts[k], 1) for k in ("cpu_seconds",) if k in facts},
        **{k: facts[k] for k in ("peak_memory_mib",) if k in facts},
        "images_per_second": round(len(items) / max(seconds, 1e-9), 2),
        "scoring_device": device.type,
        "threads": torch.get_num_threads(),
    }
    scores = scorefile.Scores(
        category=category.key,
        maps_NHW=maps_NHW,
        masks_NHW=np.stack(masks).astype(np.uint8),
        items=items,
        protocol=protocol,
        run=run_facts,
    )
    scorefile.write(folder / FOLDER, scores)
    return True
