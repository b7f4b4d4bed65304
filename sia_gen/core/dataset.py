"""Datasets: a folder in MVTec-AD's layout is one by its path alone.

    DIR/<category>/train/good/*.png
    DIR/<category>/test/good/*.png, DIR/<category>/test/<defect>/*.png
    DIR/<category>/ground_truth/<defect>/<stem>_mask.png

A path may also name one category's own folder. Embedded datasets are written to disk in the same
layout on first use, so that nothing downstream knows the difference.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.files import cache_folder
from sia_gen.core.images import is_image_name

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
EMBEDDED = ("textures",)
GOOD = "good"

Kind = Literal["texture", "object", "unknown"]


@dataclass(frozen=True, kw_only=True)
class ExampleImage:
    """One test image: its defect type ("good" for none) and its mask file, if it has one."""

    path: Path
    defect: str
    mask: Path | None

    @property
    def anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect != GOOD


@dataclass(frozen=True, kw_only=True)
class Category:
    """One kind of part or surface: its normal training images and its test images."""

    dataset: str
    name: str
    root: Path
    train: tuple[Path, ...]
    test: tuple[ExampleImage, ...]
    kind: Kind = "unknown"
    foreground: str = "auto"

    @property
    def key(self) -> str:
        """The category's full name, dataset/category: seeds and records use it."""
        return f"{self.dataset}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named set of categories on disk."""

    name: str
    root: Path
    categories: tuple[Category, ...]

    def select(self, patterns: str) -> tuple[Category, ...]:
        """Returns the categories that match: `all`, names and globs, separated by commas.

        A pattern matches the category's name or its full name (`brick`, `b*`, `textures/*`).
        """
        if patterns == "all":
            return self.categories
        chosen: list[Category] = []
        for pattern in (part.strip() for part in patterns.split(",")):
            found = [
                c
                for c in self.categories
                if fnmatch.fnmatchcase(c.name, pattern) or fnmatch.fnmatchcase(c.key, pattern)
            ]
            if not found:
                known = [c.name for c in self.categories]
                message = f"category {pattern!r} is not in {self.root}.{near_names(pattern, known)}"
                raise UserError(message)
            chosen += [c for c in found if c not in chosen]
        return tuple(chosen)

    def one(self, name: str) -> Category:
        """Returns exactly one category, or raises UserError."""
        chosen = self.select(name)
        if len(chosen) != 1:
            message = f"{name!r} matches {len(chosen)} categories of {self.root}; name one"
            raise UserError(message)
        return chosen[0]


def _images_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(p for p in folder.iterdir() if p.is_file() and is_image_name(p)))


def _find_mask(category: Path, defect: str, image: Path) -> Path | None:
    folder = category / "ground_truth" / defect
    for name in (f"{image.stem}_mask", image.stem):
        for extension in (".png", ".bmp", ".jpg", ".tif", ".tiff", ".jpeg"):
            if (folder / f"{name}{extension}").is_file():
                return folder / f"{name}{extension}"
    return None


def _read_test(category: Path) -> tuple[ExampleImage, ...]:
    folder = category / "test"
    if not folder.is_dir():
        return ()
    items: list[ExampleImage] = []
    for defect in sorted(p for p in folder.iterdir() if p.is_dir()):
        for image in _images_in(defect):
            mask = None if defect.name == GOOD else _find_mask(category, defect.name, image)
            items.append(ExampleImage(path=image, defect=defect.name, mask=mask))
    return tuple(items)


def _read_category(folder: Path, dataset: str, facts: dict[str, object]) -> Category:
    good = folder / "train" / GOOD
    if not good.is_dir():
        message = (
            f"{folder} has no train/good folder: expected MVTec-AD's layout, with the normal"
            f" images in {good}"
        )
        raise UserError(message)
    train = _images_in(good)
    if not train:
        raise UserError(f"{good} holds no image: put the normal images there")
    kind = str(facts.get("kind", "unknown"))
    if kind not in {"texture", "object", "unknown"}:
        raise UserError(f"{folder}: kind {kind!r} is not texture, object or unknown")
    return Category(
        dataset=dataset,
        name=folder.name,
        root=folder,
        train=train,
        test=_read_test(folder),
        kind=kind,  # type: ignore[arg-type]
        foreground=str(facts.get("foreground", "auto")),
    )


def read_manifest(name: str) -> dict[str, dict[str, object]]:
    """Returns a manifest's facts per category, or an empty dict for a dataset without one."""
    path = MANIFESTS / "datasets" / f"{name}.yaml"
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(content["categories"])


def open_dataset(data: str | Path) -> Dataset:
    """Returns the dataset at a path, or the embedded dataset of that name.

    Raises UserError for a missing folder, a folder in another layout, or an empty category.
    """
    path = Path(data)
    if str(data) in EMBEDDED and not path.exists():
        from sia_gen.core import textures

        path = textures.materialise(cache_folder() / "datasets")
    if not path.exists():
        message = (
            f"data folder {path} does not exist: give a folder in MVTec-AD's layout, or an"
            f" embedded dataset ({', '.join(EMBEDDED)})"
        )
        raise UserError(message)
    if not path.is_dir():
        raise UserError(f"data {path} is a file: give a folder in MVTec-AD's layout")
    path = path.resolve()
    if (path / "train").is_dir():
        dataset = path.parent.name
        facts = read_manifest(dataset).get(path.name, {})
        return Dataset(name=dataset, root=path, categories=(_read_category(path, dataset, facts),))
    dataset = path.name
    manifest = read_manifest(dataset)
    folders = sorted(
        p for p in path.iterdir() if (p / "train").is_dir() and not p.name.startswith(".")
    )
    if not folders:
        message = (
            f"{path} holds no category: expected {path}/<category>/train/good with normal images"
        )
        raise UserError(message)
    categories = tuple(_read_category(f, dataset, manifest.get(f.name, {})) for f in folders)
    return Dataset(name=dataset, root=path, categories=categories)
