"""Good files of what detectors and their measurements write and read: scores, maps, weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sia_gen.core.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype(np.uint8)


@dataclass(frozen=True)
class Format:
    """A good file (or the files of a folder) and who reads it."""

    make: Callable[[Path], Path]  # writes the good files into a folder, returns the one to damage
    read: Callable[[Path], object]


def each(readers: list[Callable[[], object]]) -> None:
    """Calls all readers; raises the last UserError where one refused."""
    refused: UserError | None = None
    for reader in readers:
        try:
            reader()
        except UserError as error:
            refused = error
    if refused is not None:
        raise refused


def _scores(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from detector.scorefile import Scores, image_scores, write

        maps = PIXELS[None, ..., 0].astype(np.float32).repeat(2, axis=0)
        masks = np.zeros(maps.shape, dtype=np.uint8)
        masks[1, :4] = 1
        items = [
            {"path": f"test/{i}.png", "defect": "hole" if i else "good", "anomalous": bool(i),
             "has_mask": bool(i), **image_scores(maps[i])}
            for i in range(2)
        ]  # fmt: skip
        scores = Scores(
            category="mini/brick", maps_NHW=maps, masks_NHW=masks, items=items,
            protocol={"detector": "x"}, run={"seed": 0},
        )  # fmt: skip
        write(folder / "scores", scores)
        return folder / "scores" / name

    return make


def _read_scores(path: Path) -> None:
    from harness.measure.detection import evaluate

    evaluate(path.parent, path.parent.parent / "results", None, 1)


def _array(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "maps" / "good" / f"0{suffix}"
        path.parent.mkdir(parents=True)
        values = PIXELS[..., 0].astype(np.float32)
        if suffix == ".npy":
            np.save(path, values)
        elif suffix == ".npz":
            np.savez_compressed(path, paths=np.array(["good/0"]), maps=values[None])
        else:
            Image.fromarray(values).save(path)
        return path

    return make


def _read_maps(path: Path) -> None:
    from harness.measure.submit import given_maps, read_map

    readers: list[Callable[[], object]] = [lambda: read_map(path), lambda: given_maps(path.parent)]
    if path.suffix == ".npz":
        readers.append(lambda: given_maps(path))
    each(readers)


def _tensors(suffix: str, *, legacy: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import torch
        from safetensors.torch import save_file

        state = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.half)}
        path = folder / f"weights{suffix}"
        if suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=not legacy)
        return path

    return make


def _read_tensors(path: Path) -> None:
    from detector.nets.backbone import read_state
    from harness.measure.submit import given_maps
    from harness.quality.weights import load_tensors
    from sia_gen.diffusion.safe_pickle import find_state_dict, read_torch_file

    each([
        lambda: find_state_dict(read_torch_file(path)[0], path),
        lambda: load_tensors(path),
        lambda: read_state(path),
        lambda: given_maps(path),
    ])  # fmt: skip


def _recipe(folder: Path) -> Path:
    from sia_gen.core.data.dataset import MANIFESTS

    path = folder / "recipe.yaml"
    shutil.copy(MANIFESTS / "recipes" / "realnet.yaml", path)
    return path


def _read_recipe(path: Path) -> None:
    from sia_gen.core.recipes import read_recipe

    read_recipe(str(path), "detector")


def _record(folder: Path) -> Path:
    from harness import records
    from harness.measure.detection import evaluate

    scores = _scores("maps.npy")(folder).parent
    record, _ = evaluate(scores, folder / "results", None, 0)
    return records.write(folder / "results", record)


def _read_results(path: Path) -> None:
    from harness.board.build import build
    from harness.board.exports import FORMATS, render
    from harness.records import find, identity

    # As if its writer had made it so: its name fits its content.
    try:
        content = json.loads(path.read_bytes())
        path = path.rename(path.with_name(f"{identity(content)}.json"))
    except (ValueError, KeyError, TypeError, RecursionError, OSError, AttributeError):
        pass
    sections = build(find([path.parent.parent]))
    for form in FORMATS:
        render(sections, form)


RESULTS: dict[str, Format] = {
    "maps.npy": Format(_scores("maps.npy"), _read_scores),
    "masks.npy": Format(_scores("masks.npy"), _read_scores),
    "scores.json": Format(_scores("scores.json"), _read_scores),
    "map-npy": Format(_array(".npy"), _read_maps),
    "map-npz": Format(_array(".npz"), _read_maps),
    "map-tiff": Format(_array(".tiff"), _read_maps),
    "pt": Format(_tensors(".pt"), _read_tensors),
    "pt-legacy": Format(_tensors(".pth", legacy=True), _read_tensors),
    "safetensors": Format(_tensors(".safetensors"), _read_tensors),
    "recipe": Format(_recipe, _read_recipe),
    "result": Format(_record, _read_results),
}
