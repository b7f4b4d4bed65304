"""A detector's run folder: whose it is, what it was asked to do, and who is at work in it.

RUN/<dataset>/<category>/options.json             what was asked, from which inputs
RUN/<dataset>/<category>/state/                   the last periodic state, while training
RUN/<dataset>/<category>/checkpoint.safetensors   the trained network, backbone included
RUN/<dataset>/<category>/checkpoint.json          its facts, written last: training is done
RUN/<dataset>/<category>/kept/step-<step>/        checkpoints of steps in between (--keep-every)
RUN/<dataset>/<category>/scores/                  the score file of the test images
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detector.data.normals import is_held_out
from detector.data.source import identity
from detector.data.task import Task
from detector.options import HARMLESS, LATER_OF_REALNET, TrainOptions, without_unasked
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.options import current_names
from sia_gen.core.pip_weights import PIP, lite_weights
from sia_gen.core.provenance import hash_options, sha256_file, versions
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.files import TEMPORARY_PREFIX, read_json, write_json
from sia_gen.core.store.held import discard, held
from sia_gen.core.store.shards import read_record

OPTIONS = "options.json"
DOCUMENT = "checkpoint.json"
WEIGHTS = "checkpoint.safetensors"
STATE = "state"
KEPT = "kept"
SCHEMA = 1


Split = tuple[tuple[Path, ...], tuple[Path, ...]]


def folder_of(run: Path, of: Category | Task) -> Path:
    """Returns the folder of a category, or of a task, in a run."""
    return run / of.dataset / of.name


HELD_OUT, ENOUGH = 0.1, 20  # share that is held out unless told otherwise, of so many images


def split_training(category: Category, holdout: float | None) -> Split:
    """Returns the normal images to train on and the held-out ones, split by the hash of names.

    None holds out a tenth, at least one, where there are 20 images or more, else none.
    """
    share = holdout
    if share is None:
        share = HELD_OUT if len(category.train) >= ENOUGH else 0.0
    held = tuple(p for p in category.train if is_held_out(p, category.key, share))
    if holdout is None and share and not held:
        held = (min(category.train, key=lambda path: derive_seed(category.key, path.name)),)
    used = tuple(p for p in category.train if p not in set(held))
    if len(used) < 2:
        raise UserError(
            f"{category.root} has {len(used)} normal images to train on"
            f"{f' after holding out {len(held)}' if holdout else ''}: at least 2 are needed, since"
            " one image shows no variation that could be told from a defect"
        )
    if holdout and not held:
        raise UserError(
            f"{category.root}: holdout {holdout} of {len(category.train)} images holds none out:"
            " give a larger share, or none"
        )
    return used, held


def split_task(task: Task, holdout: float | None) -> list[Split]:
    """Returns the split of each category of a task."""
    return [split_training(category, holdout) for category in task.categories]


def hash_files(paths: tuple[Path, ...], root: Path) -> str:
    """Returns the SHA-256 of file names and contents."""
    listing = [[str(p.relative_to(root)), sha256_file(p)] for p in paths]
    return hash_options(listing)


def hash_shards(tars: list[Path]) -> str:
    """Returns the hash of the sorted SHA-256s of shards: the identity of what was trained on."""
    found = []
    for tar in tars:
        record = read_record(tar)
        if record is None or record.get("bytes") != tar.stat().st_size:
            raise UserError(f"{tar} does not match its record: run `sia-gen verify`")
        found.append(str(record["sha256"]))
    return hash_options(sorted(found))


def weights_file(name: str, weights: str) -> Path | None:
    """Returns the file of a backbone's weights, or None where they come from elsewhere."""
    if weights == PIP:
        return lite_weights(name.partition(".")[0])
    if weights in {"random", "none"} or weights.partition(":")[0] == "pretrained":
        return None
    path = Path(weights)
    if not path.is_file():
        raise UserError(
            f"weights {path} do not exist: give a safetensors or torch file, `pip` (an installed"
            " package), `pretrained` (timm downloads it) or `random`"
        )
    return path


# What a shard's specification says of itself alone; the rest describes the synthesis as a whole.
_OF_ONE_SHARD = ("dataset", "category", "shard", "first", "count", "seed")


def _synthesis(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns how the shards were made, each way once: strengths, sampler, checkpoint and so on."""
    ways: list[dict[str, Any]] = []
    for record in records:
        spec = record.get("spec", {})
        way = {name: value for name, value in spec.items() if name not in _OF_ONE_SHARD}
        if way and way not in ways:
            ways.append(way)
    return ways


def _identity(task: Task, tars: list[Path]) -> str:
    """Returns the hash of the synthetic images that a task draws from, or `none`."""
    if task.streams:
        found = sorted({stream.sha256 for stream in task.streams})
        return found[0] if len(found) == 1 else hash_options(found)
    return hash_shards(tars) if tars else "none"


def describe(options: TrainOptions, task: Task) -> dict[str, Any]:
    """Returns options.json: what a run of this task is asked to do, from which inputs."""
    splits = split_task(task, options.holdout)
    inner = options.options
    weights = weights_file(str(inner.get("backbone")), str(inner.get("weights", "random")))
    hashes = [hash_files(c.train, c.root) for c in task.categories]
    tars = task.all_tars
    records = [read_record(tar) or {} for tar in tars]
    records += [record for stream in task.streams for record in stream.records]
    inputs = {
        "train_images": sum(len(used) for used, _ in splits),
        "held_out_images": sum(len(held) for _, held in splits),
        "train_sha256": hashes[0] if len(hashes) == 1 else hash_options(hashes),
        "foreground": ", ".join(sorted({c.foreground for c in task.categories}))
        if options.foreground
        else "whole",
        "shards_sha256": _identity(task, tars),
        "synthesis": _synthesis(records),
        "methods": identity(options),
        "weights_sha256": sha256_file(weights) if weights else "none",
    }
    if task.value_ranges:
        inputs["value_ranges"] = task.value_ranges
    return {
        "schema": SCHEMA,
        "kind": "detector run",
        "data": task.data,
        "category": task.key,
        "categories": [c.key for c in task.categories],
        "options": dataclasses.asdict(options),
        "inputs": inputs,
        "code": versions("torch", "timm", "accelerate", "numpy"),
    }


def recorded_data(folder: Path) -> str:
    """Returns the --data that a category's folder was trained on; UserError where none is told."""
    path = folder / OPTIONS
    data = read_json(path).get("data") if path.is_file() else None
    if not data:
        raise UserError(f"{folder} does not say what it was trained on: give --data")
    return str(data)


def trained_on(run: Path) -> tuple[str, tuple[str, ...]]:
    """Returns the --data of a run and the categories (dataset/name) that it trained.

    UserError where there is no run, or its categories are of different data.
    """
    if not run.is_dir():
        raise UserError(f"run {run} does not exist: `detector train --out {run}` makes it")
    folders = sorted(path.parent for path in run.glob(f"*/*/{OPTIONS}"))
    if not folders:
        raise UserError(f"{run} holds no <dataset>/<category>/{OPTIONS}: it is no detector's run")
    found = sorted({recorded_data(folder) for folder in folders})
    if len(found) > 1:
        raise UserError(f"{run} was trained on different data ({', '.join(found)}): give --data")
    documents = (read_json(folder / OPTIONS) for folder in folders)
    keys = (key for one in documents for key in one.get("categories") or [one["category"]])
    return found[0], tuple(dict.fromkeys(map(str, keys)))


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    recorded = current_names(TrainOptions, document.get("options", {}), OPTIONS)
    recorded = without_unasked(recorded)
    options = {k: v for k, v in recorded.items() if k not in HARMLESS}
    inner = without_unasked(options.pop("options", {}), LATER_OF_REALNET)
    if document.get("inputs", {}).get("weights_sha256", "none") != "none":
        inner.pop("weights", None)  # a file is known by its content, wherever it lies
    flat = {name: document.get(name) for name in ("category", "categories")} | options | inner
    return {**flat, **document.get("inputs", {})}


def differences(recorded: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Returns the options and inputs in which two runs differ, one readable line each."""
    old, new = _flat(recorded), _flat(asked)
    names = [*new, *(name for name in old if name not in new)]
    return [
        f"{name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} asked"
        for name in names
        if old.get(name) != new.get(name)
    ]


def has_results(folder: Path) -> bool:
    """Returns whether a run has a state or a checkpoint: one that has neither binds nobody."""
    return (folder / DOCUMENT).is_file() or any((folder / STATE).glob("step-*"))


def grows(recorded: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Returns whether a run is asked for more steps than it was, and for nothing else."""
    old, new = recorded["options"], asked["options"]
    if not old.get("steps") or not new["steps"] > old["steps"] or new["protocol"] != "last":
        return False
    longer = {**recorded, "options": {**old, "steps": new["steps"]}}
    return not differences(longer, asked)


def check_claim(folder: Path, document: dict[str, Any]) -> str:
    """Returns "new", "unfinished", "growing" (the same run with more steps) or "finished".

    UserError where another run owns the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output {folder} is a file: give a folder")
    recorded = folder / OPTIONS
    if not recorded.is_file():
        strangers = [p for p in folder.iterdir() if p.name[0] != "."] if folder.is_dir() else []
        if strangers:
            raise UserError(
                f"{folder} holds other files ({strangers[0].name}) but no {OPTIONS}: give an empty"
                " or new folder with --out"
            )
        return "new"
    if not has_results(folder):
        return "new"
    found = differences(read_json(recorded), document)
    if found and grows(read_json(recorded), document):
        return "growing"
    if [text.partition(":")[0] for text in found] == ["train_sha256"]:
        raise UserError(
            f"the normal images of {document['category']} were changed since {folder} was begun"
            f" ({found[0]}): put them back, or give another --out"
        )
    if found:
        raise UserError(
            f"{folder} belongs to a run with other options: {'; '.join(found)}. Give the same"
            " options to go on with it, or another --out"
        )
    return "finished" if (folder / DOCUMENT).is_file() else "unfinished"


@contextmanager
def claimed(folder: Path, document: dict[str, Any]) -> Iterator[None]:
    """Holds the folder for one process and records what is asked; the system frees dead holds.

    A finished training that is to grow becomes an unfinished one first.
    """
    with held(folder):
        for leftover in (folder / STATE).glob(f"{TEMPORARY_PREFIX}*"):
            discard(leftover)
        if not has_results(folder) or grows(read_json(folder / OPTIONS), document):
            (folder / DOCUMENT).unlink(missing_ok=True)
            write_json(folder / OPTIONS, document)
        yield
