"""A good file of every format that is read, and who reads it: pictures, lists, run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_results import PIXELS, RESULTS, Format, each
from PIL import Image

from sia_gen.core.pixels.images import encode_png


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
    each(readers)


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

    each([
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


def _images(folder: Path) -> Path:
    """Writes a run of a fake model, the dataset beside it."""
    import fake_model

    from sia_gen.generate.contents.images import prepare
    from sia_gen.generate.options import ExecutionOptions, RunOptions
    from sia_gen.generate.run import run

    fake_model.announce()
    data = folder / "mini" / "brick" / "train" / "good"
    data.mkdir(parents=True)
    (data / "0.png").write_bytes(encode_png(PIXELS))
    options = RunOptions(
        out=str(folder / "run"), data=str(folder / "mini"), model="testing:noise", per_category=4
    )
    run(prepare(options), ExecutionOptions(executor="local"))
    return folder / "run"


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

    each([
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


FORMATS: dict[str, Format] = {
    "tar": Format(_in_run("*.tar"), _read_run),
    "record": Format(_in_run("brick-00000.json"), _read_run),
    "run.json": Format(_in_run("run.json"), _read_run),
    "index.json": Format(_in_run("index.json"), _read_run),
    "lock.json": Format(_held("lock.json"), _read_run),
    "driver": Format(_held("drivers/abc.json"), _read_run),
    "run.json-images": Format(lambda folder: _images(folder) / "run.json", _read_run),
    "record-images": Format(lambda folder: next(_images(folder).rglob("*-00000.json")), _read_run),
    "pairs-tar": Format(lambda folder: next(_pairs(folder).rglob("*.tar")), _read_pairs),
    "run.json-pairs": Format(lambda folder: _pairs(folder) / "run.json", _read_pairs),
    "list-jsonl": Format(_jsonl, _read_list),
    "list-csv": Format(_csv, _read_list),
    "image-palette": Format(_image("PNG", mode="P"), _read_picture),
    **{
        f"image-{form.lower()}": Format(_image(form), _read_picture)
        for form in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
    },
    **RESULTS,
}
