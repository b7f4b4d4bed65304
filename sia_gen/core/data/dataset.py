"""Opening datasets: what `--data` may be.

    DIR              a folder in a layout that is recognised (see layouts.py), one category's
                     folder of it, a folder of normal images, or a folder of several datasets
    FILE             a list of images: CSV or JSON lines (sia_gen.core.data.listing)
    NAME=PATH        any of these under a dataset's name: `mvtec-ad=/data/mvtec`
    A,B,...          several of these together
    textures         the embedded dataset, written to disk on first use
    s3://BUCKET/...  a folder in an object store, of which a copy is kept in the cache

Nothing downstream knows which of these a dataset was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sia_gen.core.data import layouts
from sia_gen.core.data.category import GOOD, KINDS, Category, Dataset, ExampleImage, Kind
from sia_gen.core.data.layouts import Found
from sia_gen.core.data.listing import is_list, read_lists, split_files, with_counterpart
from sia_gen.core.data.manifest import (
    MANIFESTS,
    Manifest,
    by_name,
    load_manifest,
    manifest_names,
    plain,
    read_manifest,
    recognise,
)
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.ranges import checked
from sia_gen.core.store.files import cache_folder, is_there
from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import is_url, locate

__all__ = [
    "GOOD",
    "MANIFESTS",
    "Category",
    "Dataset",
    "ExampleImage",
    "Kind",
    "open_dataset",
    "read_manifest",
]

EMBEDDED = ("textures",)
EXPECTED = (
    "give a folder in MVTec-AD's layout (or that of another known dataset), NAME=DIR, a CSV or"
    f" JSON list, or an embedded dataset ({', '.join(EMBEDDED)})"
)
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._ -]*)=(.+)")


def _category(found: Found, dataset: str, facts: dict[str, object]) -> Category:
    kind = str(facts.get("kind", "unknown"))
    if kind not in KINDS:
        raise UserError(f"{found.root}: kind {kind!r} is not texture, object or unknown")
    own = found.root / "foreground"
    rule = f"masks {own}" if own.is_dir() else str(facts.get("foreground", "auto"))
    index = facts.get("class_index")
    return Category(
        dataset=dataset,
        name=found.name,
        root=found.root,
        train=found.train,
        test=found.test,
        train_anomalous=found.train_anomalous,
        kind=kind,  # type: ignore[arg-type]
        foreground=rule,
        class_index=index if isinstance(index, int) else None,
    )


def _named(
    found: Iterable[Found], root: Path, layout: str, places: list[str], given: str | None
) -> Dataset:
    """Returns a dataset of these categories under the name that is given or recognised."""
    found = list(found)
    manifest: Manifest | None
    if given is not None:
        manifest = by_name(given)
        if manifest and not {f.name for f in found} & set(manifest.categories):
            names = ", ".join(f.name for f in found[:5])
            message = (
                f"{root} is not {manifest.name}: it holds {names}, expected"
                f" {', '.join(list(manifest.categories)[:5])}"
            )
            raise UserError(message)
    else:
        manifest = recognise(places, [f.name for f in found])
    name = manifest.name if manifest else (given or places[0])
    facts = manifest.categories if manifest else {}
    categories = tuple(_category(f, name, facts.get(f.name, {})) for f in found)
    origin = str(root) if given is None else f"{name}={root}"
    return Dataset(name=name, root=root, categories=categories, layout=layout, origin=origin)


def _open_list(path: Path, given: str | None) -> Dataset:
    found = read_lists(with_counterpart(path))
    places = [path.parent.name or "list", path.parent.parent.name, path.stem]
    return _named(found, path, "list", places, given)


def _category_folders(path: Path) -> list[Path]:
    return [p for p in layouts.folders_in(path) if (p / "train").is_dir() or layouts.is_visa_raw(p)]


def _open_folder(path: Path, given: str | None) -> Dataset | None:
    """Returns the one dataset that a folder is, or None where it is none itself."""
    if layouts.is_ksdd2(path):
        return _named([layouts.read_ksdd2(path)], path, "ksdd2", [path.name], given)
    if layouts.is_visa_raw(path):
        whole = _open_folder(path.parent, given)
        assert whole is not None  # its parent holds at least this category
        one = tuple(c for c in whole.categories if c.root == path)
        return replace(whole, root=path, origin=str(path), categories=one)
    if (path / "train").is_dir():
        found = layouts.read_folders(path)
        return _named([found], path, "mvtec", [path.parent.name], given)
    folders = _category_folders(path)
    if any(layouts.is_visa_raw(p) for p in folders):
        return _open_visa(path, given)
    if folders and not any(layouts.is_ksdd2(p) for p in folders):
        found_all = [layouts.read_folders(p) for p in folders]
        return _named(found_all, path, "mvtec", [path.name, path.parent.name], given)
    lists = split_files(path)
    if lists and not folders:
        places = [path.parent.name, path.name]
        return _named(read_lists(lists), path, "list", places, given)
    if layouts.images_in(path) and not layouts.folders_in(path):
        places = [path.name]
        return _named([layouts.read_flat(path)], path, "flat", places, given)
    return None


def _open_visa(path: Path, given: str | None) -> Dataset:
    here = {p.name for p in layouts.folders_in(path) if layouts.is_visa_raw(p)}
    found = read_lists([layouts.find_visa_split(path)], base=path, wanted=here)
    own = [replace(f, root=path / f.name) for f in found]
    return _named(own, path, "visa", ["visa"], given)


def _open_set(path: Path, depth: int = 3) -> Dataset | None:
    """Returns all datasets below a folder as one set, or None where there are none."""
    opened = []
    folders = layouts.folders_in(path) if depth else []
    for folder in folders:
        # Only what looks like a dataset is opened, so that a fault inside one is told as such.
        wrapped = _category_folders(folder) or layouts.is_ksdd2(folder)
        if wrapped:
            dataset = _open_folder(folder, None)
            if dataset is not None:
                opened.append(dataset)
        elif by_name(folder.name) or len(folders) == 1:
            inner = _open_set(folder, depth - 1)
            if inner is not None:
                opened.append(inner)
    return _together(opened, path) if opened else None


def _together(opened: list[Dataset], root: Path) -> Dataset:
    """Returns several datasets as one; `all` means those of SIA where there are any."""
    if len(opened) == 1:
        return opened[0]
    categories = tuple(c for dataset in opened for c in dataset.categories)
    keys = [c.key for c in categories]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        raise UserError(f"{root} holds category {twice} twice: give the datasets by NAME=DIR")
    sia = {name for name in manifest_names() if (m := load_manifest(name)) and m.sia}
    return Dataset(
        name="+".join(dict.fromkeys(c.dataset for c in categories)),
        root=root,
        categories=categories,
        layout="set",
        origin=",".join(dataset.origin for dataset in opened),
        usual=tuple(c for c in categories if c.dataset in sia),
        members=tuple(root for dataset in opened for root in dataset.roots),
    )


def _open_one(data: str, given: str | None = None) -> Dataset:
    # An address is kept here as a copy: what every command reads again and again.
    path = local_folder(locate(data)) if is_url(data) else Path(data)
    if data in EMBEDDED and given is None and not path.exists():
        from sia_gen.core.data import textures

        path = textures.materialise(cache_folder() / "datasets")
    if not path.exists():
        manifest = by_name(data) if given is None else None
        if manifest and "/" not in data:
            message = (
                f"{manifest.title} is known, but not where it lies here: give"
                f" {manifest.name}=DIR (it is found at {manifest.homepage}, licence"
                f" {manifest.licence})"
            )
            raise UserError(message)
        raise UserError(f"data folder {path} does not exist: {EXPECTED}")
    path = path.resolve()
    if path.is_file():
        if not is_list(path):
            raise UserError(f"data {path} is a file, but no list of images: {EXPECTED}")
        return _open_list(path, given)
    if not path.is_dir():
        raise UserError(f"data {path} is neither a folder nor a file: {EXPECTED}")
    dataset = _open_folder(path, given) or _open_set(path)
    if dataset is None:
        message = (
            f"{path} holds no category: expected {path}/<category>/train/good with normal images"
        )
        raise UserError(message)
    if given is not None and plain(dataset.name) != plain(given):
        return _named_inside(dataset, given, path)
    return dataset


def _named_inside(dataset: Dataset, given: str, path: Path) -> Dataset:
    """Returns a dataset that was found one folder further down, under the name that is given."""
    if dataset.layout == "set":
        raise UserError(f"{path} holds several datasets ({dataset.name}), not {given} alone")
    inner = _open_folder(dataset.root, given)
    assert inner is not None  # it was opened from this folder a moment ago
    return inner


def open_dataset(data: str | Path, value_range: Sequence[float] | None = None) -> Dataset:
    """Returns the dataset that `--data` means; the module's head lists what it may be.

    `value_range` is what means black and white in files of more than 8 bits; without it each
    category's is measured. Raises UserError for a missing folder, an unknown layout, or an empty
    category.
    """
    text = os.fspath(data)
    if not text.strip():
        raise UserError(f"data is empty: {EXPECTED}")
    given = checked(value_range)
    try:
        dataset = _open(text)
    except OSError as error:
        raise UserError(f"data {text[:80]}: {error.strerror or error}") from error
    if given is None:
        return dataset
    changed = {c.key: replace(c, given_range=given) for c in dataset.categories}
    return replace(
        dataset,
        categories=tuple(changed.values()),
        usual=tuple(changed[c.key] for c in dataset.usual),
    )


def _open(text: str) -> Dataset:
    if is_there(text) or text in EMBEDDED:
        return _open_one(text)
    parts = [part.strip() for part in text.split(",")] if "," in text else [text]
    opened = []
    for part in parts:
        named = _NAMED.fullmatch(part)
        if named and not is_there(part):
            name, path = named.groups()
            manifest = by_name(name)
            opened.append(_open_one(path, manifest.name if manifest else name))
        else:
            opened.append(_open_one(part))
    root = Path(os.path.commonpath([d.root for d in opened]))
    return _together(opened, root)
