"""Scoring: the anomaly maps of a category's test images, published as a score file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector import checkpoint, models, scorefile
from detector.data.task import MULTI_CLASS
from detector.options import HARMLESS, model_options
from detector.training import run_folder as runfolder
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.ranges import ValueRange, checked
from sia_gen.core.plugins import load as load_plugin
from sia_gen.core.provenance import hash_options, sha256_file, versions
from sia_gen.core.store.files import read_json

FOLDER = "scores"
PASS = 16  # images scored at a time


def _hash_test(category: Category) -> str:
    """Returns the SHA-256 of the test images and masks, names and contents."""
    listing = [
        [str(e.path.relative_to(category.root)), sha256_file(e.path)]
        + [sha256_file(m) for m in e.masks]
        for e in category.test
    ]
    return hash_options(listing)


def _own_words(options: dict[str, Any]) -> dict[str, Any]:
    plugin = load_plugin(models, str(options["model"]))
    found: dict[str, Any] = plugin.describe(model_options(plugin.Options, options["options"]))
    return found


def protocol_of(facts: dict[str, Any]) -> dict[str, Any]:
    """Returns what must agree between results of one row: all that made a score, but its run."""
    options = dict(facts["options"])
    inner = dict(options["options"])
    source = str(options["source"])
    budget = {"steps": options["steps"]} if options["steps"] else {"epochs": options["epochs"]}
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
        "checkpoint_rule": str(facts.get("chosen", {}).get("rule", "last")),
        "image_scores": ["max", "avgpool16_max"],
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


def trained_range(facts: dict[str, Any], key: str | None = None) -> ValueRange | None:
    """Returns the range that a detector reads files of more than 8 bits with, or None.

    `key` names one of its categories; without it all must agree, or a UserError names them.
    """
    known = facts.get("inputs", {}).get("value_ranges", {})
    if key is not None:
        return checked(known.get(key))
    found = sorted({tuple(value) for value in known.values()})
    if len(found) > 1:
        text = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in known.items())
        raise UserError(
            f"the detector was trained on categories of several value ranges ({text}): an image"
            " without a category cannot be read; train one detector for each"
        )
    return checked(found[0]) if found else None


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
) -> bool:
    """Scores one category's test images; False where that was done before and is left alone."""
    folder = runfolder.folder_of(run, category)
    source = model_folder(run, category)
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
    category = replace(category, given_range=trained_range(facts, category.key))
    resolution = trained.options.resolution
    maps, seconds = [], 0.0
    for start in range(0, len(category.test), PASS):
        part = category.test[start : start + PASS]
        images = np.stack([category.read_image(e.path, resolution) for e in part])
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
            **scorefile.image_scores(map_HW),
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
