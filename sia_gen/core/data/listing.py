"""Datasets given by a list: CSV or JSON (rows.py says which kinds), with one image a line.

    image     image, filename, path, image_path, img_path  relative to the list, or absolute
    label     label, label_name, anomaly                   0/normal/good or 1/anomaly/defect name
    mask      mask, maskname, mask_path                    optional
    split     split                                        train or test
    category  category, clsname, cls_name, object, class   optional
    defect    defect, defect_type, specie_name             optional: the defect's name

The RealNet authors' split files (train_bottle.json, test_bottle.json: JSON lines) are such lists,
and so is VisA's 1cls.csv. Every fault names its line.
"""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

from sia_gen.core.data.category import GOOD, ExampleImage
from sia_gen.core.data.layouts import Found, list_folder
from sia_gen.core.data.rows import ANOMALOUS, NORMAL, Row, read_rows
from sia_gen.core.errors import UserError
from sia_gen.core.store.paths import checked_name, relative_name

SUFFIXES = (".csv", ".json", ".jsonl")
TEXTS = (".tsv", ".txt")  # lists where a user gives them by name


@dataclass
class _Files:
    train: list[Path] = field(default_factory=list)
    test: list[ExampleImage] = field(default_factory=list)
    train_anomalous: list[ExampleImage] = field(default_factory=list)


def is_list(path: Path) -> bool:
    """Returns whether a file name is that of a list."""
    return path.suffix.lower() in (*SUFFIXES, *TEXTS)


def _located(name: str, base: Path, where: str) -> Path:
    """Returns the file that a list's path means; UserError where it climbs out or is missing."""
    path = Path(name.replace("\\", "/"))
    # A list may name files anywhere by their absolute paths: its user says so by giving it.
    relative = relative_name("/".join(path.parts[1:]) if path.is_absolute() else str(path), where)
    full = Path(path.anchor) / relative if path.is_absolute() else base / relative
    if not full.is_file():
        raise UserError(f"{where}: {full} does not exist")
    return full


def _is_share(label: str) -> bool:
    try:
        return 0 < float(label) < 1
    except ValueError:
        return False


def _is_anomalous(values: dict[str, str], where: str) -> bool:
    label = values.get("label", "").casefold()
    if not label:
        return values.get("defect", GOOD).casefold() not in {GOOD, "ok", "normal"}
    if label in NORMAL:
        return False
    if label in ANOMALOUS:
        return True
    if _is_share(label):
        raise UserError(
            f"{where}: label {label} lies between normal (0) and anomalous (1): decide which it"
            " is, or leave the line out"
        )
    message = (
        f"{where}: label {values['label']!r} is neither normal (0, normal, good) nor anomalous"
        " (1, anomaly)"
    )
    raise UserError(message)


def _split_of(values: dict[str, str], path: Path, anomalous: bool, where: str) -> str:
    split = values.get("split", "").casefold()
    if not split:
        prefix = path.stem.split("_")[0].casefold()
        split = prefix if prefix in {"train", "test"} else ("test" if anomalous else "train")
    if split not in {"train", "test"}:
        raise UserError(f"{where}: split {values['split']!r} is neither train nor test")
    return split


def _category_of(values: dict[str, str], path: Path) -> str:
    if "category" in values:
        return values["category"]
    parts = Path(values["image"].replace("\\", "/")).parts
    if len(parts) >= 4 and parts[-3] in {"train", "test"}:
        return parts[-4]
    prefix, _, rest = path.stem.partition("_")
    return rest if prefix in {"train", "test"} and rest else path.stem


def _base_of(rows: list[Row], path: Path) -> Path:
    """Returns the folder that a list's paths start from: the list's own, or one near it.

    The RealNet authors keep their lists in samples/ beside the folder of images.
    """
    first = Path(rows[0].values["image"].replace("\\", "/"))
    places = [path.parent, path.parent.parent]
    places += [p for p in list_folder(path.parent.parent) if p.is_dir()]
    for place in places:
        if (place / first).is_file():
            return place
    return path.parent


def read_lists(
    paths: list[Path], base: Path | None = None, wanted: Container[str] | None = None
) -> list[Found]:
    """Returns the categories of one or several lists, in the order of their names.

    `wanted` names the categories to be read; the lines of others may name files that are not here.
    """
    categories: dict[str, _Files] = {}
    seen: dict[Path, str] = {}
    for path in paths:
        rows = read_rows(path)
        start = base or _base_of(rows, path)
        for row in rows:
            if wanted is not None and _category_of(row.values, path) not in wanted:
                continue
            image = _located(row.values["image"], start, row.where)
            if image in seen:
                raise UserError(f"{row.where}: {image} is listed before, in {seen[image]}")
            seen[image] = row.where
            _place(row, path, image, start, categories)
    found = []
    for name, files in sorted(categories.items()):
        if not files.train:
            lists = ", ".join(str(p) for p in paths)
            raise UserError(f"{lists}: category {name!r} has no normal training image")
        everything = [*files.train, *(e.path for e in (*files.test, *files.train_anomalous))]
        root = Path(os.path.commonpath([p.parent for p in everything]))
        found.append(
            Found(
                name=name,
                root=root,
                train=tuple(files.train),
                test=tuple(files.test),
                train_anomalous=tuple(files.train_anomalous),
            )
        )
    return found


def _place(row: Row, path: Path, image: Path, base: Path, categories: dict[str, _Files]) -> None:
    name = _category_of(row.values, path)
    checked_name(name, f"{row.where}: category")
    files = categories.setdefault(name, _Files())
    anomalous = _is_anomalous(row.values, row.where)
    split = _split_of(row.values, path, anomalous, row.where)
    mask = row.values.get("mask") if anomalous else None
    defect = _defect_of(row.values) if anomalous else GOOD
    example = ExampleImage(
        path=image, defect=defect, mask=_located(mask, base, row.where) if mask else None
    )
    if split == "test":
        files.test.append(example)
    elif anomalous:
        files.train_anomalous.append(example)
    else:
        files.train.append(image)


def _defect_of(values: dict[str, str]) -> str:
    if "defect" in values:
        return values["defect"]
    parts = Path(values["image"].replace("\\", "/")).parts
    # The folder names the defect in MVTec-AD's layout: category/test/<defect>/file.
    if len(parts) >= 3 and parts[-3] == "test":
        return parts[-2]
    return "anomaly"


def split_files(folder: Path) -> list[Path]:
    """Returns the train_*.json and test_*.json of a folder; train_uni is the sum of the others."""
    lists = [
        p
        for p in list_folder(folder)
        if p.suffix.lower() in SUFFIXES
        and p.stem.split("_")[0] in {"train", "test"}
        and p.is_file()
    ]
    single = [p for p in lists if not p.stem.endswith("_uni")]
    return single or lists


def with_counterpart(path: Path) -> list[Path]:
    """Returns a list and, for one of a pair train_NAME and test_NAME, the other one too."""
    prefix, _, rest = path.stem.partition("_")
    other = {"train": "test", "test": "train"}.get(prefix)
    if not other:
        return [path]
    twin = path.with_name(f"{other}_{rest}{path.suffix}" if rest else f"{other}{path.suffix}")
    return sorted({path, twin}) if twin.is_file() else [path]
