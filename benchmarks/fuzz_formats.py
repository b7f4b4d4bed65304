"""A good file of every format that is read, and who reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype(np.uint8)


@dataclass(frozen=True)
class Format:
    """A good file (or the files of a folder) and who reads it."""

    make: Callable[[Path], Path]  # writes the good files into a folder, returns the one to damage
    read: Callable[[Path], object]


def _image(form: str, **how: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"a.{form.lower()}"
        image = Image.fromarray(PIXELS)
        if how.get("mode"):
            image = image.convert(how["mode"])
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, form, **({"exif": exif} if form in {"JPEG", "TIFF", "WEBP"} else {}))
        return path

    return make


def _read_picture(path: Path) -> None:
    from detector.inference.memory import of_bytes
    from sia_gen.core.pixels import images
    from sia_gen.core.pixels.masks import read_mask
    from sia_gen.generate.contents.packed import _stored

    readers: list[Callable[[], object]] = [
        lambda: images.read_size(path),
        lambda: images.read_image(path, 16),
        lambda: read_mask(path),
        lambda: images.decode(path.read_bytes(), "x"),
        lambda: _stored(path, None),
        lambda: of_bytes(path.read_bytes(), "x", 10**6, (0.0, 4095.0)),
    ]
    _each(readers)


def _each(readers: list[Callable[[], object]]) -> None:
    """Calls all readers; raises the last UserError where one refused."""
    refused: UserError | None = None
    for reader in readers:
        try:
            reader()
        except UserError as error:
            refused = error
    if refused is not None:
        raise refused


def _run(folder: Path) -> Path:
    """Writes a packed folder with its source beside it."""
    from sia_gen.generate.contents.packed import prepare
    from sia_gen.generate.options import ExecutionOptions, PackOptions
    from sia_gen.generate.run import run

    source = folder / "source" / "brick"
    source.mkdir(parents=True)
    (source / "0.png").write_bytes(encode_png(PIXELS))
    (source / "1.png").write_bytes(encode_png(PIXELS[::-1]))
    out = folder / "run"
    options = PackOptions(source=str(source.parent), out=str(out))
    run(prepare(options), ExecutionOptions(executor="local"))
    return out


def _in_run(name: str) -> Callable[[Path], Path]:
    return lambda folder: next(_run(folder).rglob(name))


def _read_run(path: Path) -> None:
    from sia_gen.care import status
    from sia_gen.care.repair import repair
    from sia_gen.care.verify import verify
    from sia_gen.core.store.made_from import made_from
    from sia_gen.core.store.shards import ShardReader, find_shards
    from sia_gen.generate.options import ExecutionOptions

    run = next(p for p in path.parents if p.name == "run")

    def read_all() -> None:
        reader = ShardReader(find_shards(run))
        for place in range(len(reader)):
            reader.metadata(place)
            reader.image(place)

    _each([
        read_all,
        lambda: made_from(run),
        lambda: verify(run),
        lambda: status.describe(status.read(run)),
        lambda: repair(run, ExecutionOptions(executor="local")),
    ])  # fmt: skip


def _held(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        run = _run(folder)
        path = run / name
        path.parent.mkdir(exist_ok=True)
        facts = {"pid": 1, "process_start": 1, "host": "elsewhere", "since": "x", "token": "abc"}
        path.write_text(json.dumps(facts))
        return path

    return make


def _pairs(folder: Path) -> Path:
    from sia_gen.generate.contents.pairs import prepare
    from sia_gen.generate.options import ExecutionOptions, SynthesisOptions
    from sia_gen.generate.run import run

    data = folder / "mini" / "brick" / "train" / "good"
    data.mkdir(parents=True)
    for place in range(2):
        (data / f"{place}.png").write_bytes(encode_png(PIXELS[:16, :16]))
    out = folder / "pairs"
    options = SynthesisOptions(
        method="noise", out=str(out), data=str(folder / "mini"), per_category=2, resolution=16
    )
    run(prepare(options), ExecutionOptions(executor="local"))
    return out


def _read_pairs(path: Path) -> None:
    from sia_gen.care.repair import repair
    from sia_gen.care.verify import verify
    from sia_gen.core.data.category import as_recorded
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.store.made_from import made_from
    from sia_gen.core.store.shards import MASK, ShardReader
    from sia_gen.generate.options import ExecutionOptions

    out = next(p for p in path.parents if p.name == "pairs")

    def read_all() -> None:
        reader = ShardReader([next(out.rglob("*.tar"))])
        for place in range(len(reader)):
            reader.extra(place, MASK)

    def recorded() -> None:
        if found := made_from(out):
            as_recorded(open_dataset(out.parent / "mini").categories, found.value_ranges)

    _each([
        read_all,
        recorded,
        lambda: verify(out),
        lambda: repair(out, ExecutionOptions(executor="local")),
    ])  # fmt: skip


def _dataset(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for split, defect, count in (("train", "good", 3), ("test", "good", 1), ("test", "hole", 1)):
        for place in range(count):
            name = f"img/{split}-{defect}-{place}.png"
            (folder / "img").mkdir(exist_ok=True)
            (folder / name).write_bytes(encode_png(PIXELS))
            rows.append({"image": name, "label": int(defect != "good"), "split": split,
                         "category": "brick", "mask": ""})  # fmt: skip
    mask = np.zeros((24, 20), dtype=np.uint8)
    mask[4:8, 4:8] = 255
    (folder / "img/mask.png").write_bytes(encode_png(mask))
    rows[-1]["mask"] = "img/mask.png"
    return rows


def _jsonl(folder: Path) -> Path:
    path = folder / "list.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in _dataset(folder)))
    return path


def _csv(folder: Path) -> Path:
    rows = _dataset(folder)
    path = folder / "list.csv"
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    path.write_text("\n".join(lines))
    return path


def _read_list(path: Path) -> None:
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.data.inspection import inspect

    dataset = open_dataset(str(path))
    inspect(dataset, dataset.select("*"), lambda _a, _b: None)


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
    _each(readers)


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

    _each([
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


FORMATS: dict[str, Format] = {
    "tar": Format(_in_run("*.tar"), _read_run),
    "record": Format(_in_run("brick-00000.json"), _read_run),
    "run.json": Format(_in_run("run.json"), _read_run),
    "index.json": Format(_in_run("index.json"), _read_run),
    "lock.json": Format(_held("lock.json"), _read_run),
    "driver": Format(_held("drivers/abc.json"), _read_run),
    "pairs-tar": Format(lambda folder: next(_pairs(folder).rglob("*.tar")), _read_pairs),
    "run.json-pairs": Format(lambda folder: _pairs(folder) / "run.json", _read_pairs),
    "list-jsonl": Format(_jsonl, _read_list),
    "list-csv": Format(_csv, _read_list),
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
    "image-palette": Format(_image("PNG", mode="P"), _read_picture),
    **{
        f"image-{form.lower()}": Format(_image(form), _read_picture)
        for form in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
    },
}
