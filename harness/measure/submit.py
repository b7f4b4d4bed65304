"""Score maps of anybody's detector to a score folder: checked against the dataset, image by image.

Accepted, one category at a time (docs/submit.md):

    a folder            maps named after the test images: <defect>/<stem>.npy, .npz (one array) or
                        .png/.tif of one channel (8 or 16 bits, or float)
    one .npz or .pt     names and maps together: `image_path` (or `paths`), `anomaly_map` (or
                        `maps`) (N, H, W) or (N, 1, H, W), and if wanted `pred_score` (N,). A .pt
                        may hold a list of such dictionaries, or anomalib's predictions as they
                        are saved; it is read without running code (saved_batches.py).

Every test image needs exactly one finite map, and every map a test image: maps of another split or
another dataset are refused, not scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import scorefile
from harness.measure import saved_batches
from sia_gen.core.data.dataset import Category, ExampleImage
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.pixels.decoding import decoding, open_limited
from sia_gen.core.pixels.masks import fit_mask
from sia_gen.core.provenance import hash_options, sha256_file
from sia_gen.core.store.archives import check_zip, read_npy, read_npz
from sia_gen.core.store.foreign import reason, require_weights
from sia_gen.core.store.walk import walk
from sia_gen.core.version import __version__

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".tif", ".tiff")
NAMES = {
    "path": ("image_path", "paths", "path"),
    "map": ("anomaly_map", "anomaly_maps", "maps"),
    "score": ("pred_score", "pred_scores", "scores"),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the row will be called, and what its protocol says."""

    method: str
    source: str = "none"
    seed: int | None = None
    protocol: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Given:
    """One submitted map with the name it came under, and its own image score if it has one."""

    name: str
    map_HW: npt.NDArray[Any]
    score: float | None


def _map(values: Any, name: str) -> npt.NDArray[Any]:
    array = np.asarray(values)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or not array.size:
        raise UserError(f"{name}: expected a map (H, W), found shape {np.asarray(values).shape}")
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name}: expected numbers, found {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{name}: NaN or infinite scores cannot be ranked: mend the map")
    return array


def read_map(path: Path) -> npt.NDArray[Any]:
    """Returns the map (H, W) of one file; UserError where it holds none."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return _map(read_npy(path), str(path))
        if suffix == ".npz":
            arrays = read_npz(path)
            if len(arrays) != 1:
                raise UserError(f"{path}: expected one array, found {', '.join(arrays)}")
            return _map(next(iter(arrays.values())), str(path))
        with decoding(path), open_limited(path, path) as image:
            if len(image.getbands()) != 1 or image.mode == "P":
                raise UserError(
                    f"{path}: a picture in colours ({image.mode}) is no score map: save the scores"
                    " as one channel, 16 bits or float, or as .npy"
                )
            return _map(image, str(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _is_map(path: Path) -> bool:
    return path.suffix.lower() in (*ARRAYS, *PICTURES) and not path.name.startswith(".")


def _folder(folder: Path) -> Iterable[Given]:
    files = walk(folder, _is_map)
    if not files:
        raise UserError(f"{folder} holds no map: expected <defect>/<stem>.npy, .npz, .png or .tif")
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        yield Given(name=name, map_HW=read_map(path), score=None)


def _find(mapping: dict[str, Any], what: str, where: str, *, needed: bool = True) -> Any:
    for name in NAMES[what]:
        if name in mapping and mapping[name] is not None:
            return mapping[name]
    if needed:
        raise UserError(
            f"{where}: expected {' or '.join(NAMES[what])}, found {', '.join(sorted(mapping))}"
        )
    return None


def _batch(mapping: dict[str, Any], where: str) -> Iterable[Given]:
    names = np.atleast_1d(np.asarray(_find(mapping, "path", where))).ravel().tolist()
    maps = np.asarray(_find(mapping, "map", where))
    if maps.ndim == 2:
        maps = maps[None]
    scores = _find(mapping, "score", where, needed=False)
    scores = None if scores is None else np.atleast_1d(np.asarray(scores)).ravel()
    if len(maps) != len(names) or (scores is not None and len(scores) != len(names)):
        found = f"{len(names)} names, {len(maps)} maps"
        found += "" if scores is None else f", {len(scores)} scores"
        raise UserError(f"{where}: {found}: expected as many of each")
    for i, name in enumerate(names):
        score = None if scores is None else float(scores[i])
        if score is not None and not np.isfinite(score):
            raise UserError(f"{where}: the score of {name} is {score}: NaN is not ranked")
        yield Given(name=str(name), map_HW=_map(maps[i], f"{where}: {name}"), score=score)


def _torch(path: Path) -> Iterable[Given]:
    import torch

    require_weights(path, "maps")
    try:
        # Lists, strings, tensors and anomalib's batches are read, a file of code is refused.
        check_zip(path)
        content = saved_batches.load(path)
    except Exception as error:
        raise UserError(
            f"{path} is no plain file of lists and tensors ({reason(error)}): save"
            " [{'image_path': [...], 'anomaly_map': tensor, 'pred_score': tensor}, ...]"
        ) from error
    for number, batch in enumerate(content if isinstance(content, list) else [content]):
        where = f"{path}, batch {number}"
        if not isinstance(batch, dict):
            raise UserError(f"{where}: expected a dictionary, found {type(batch).__name__}")
        plain = {str(k): v.float().numpy() if isinstance(v, torch.Tensor) else v
                 for k, v in batch.items()}  # fmt: skip
        yield from _batch(plain, where)


def given_maps(path: Path) -> list[Given]:
    """Returns the submitted maps of a folder, an .npz or a .pt file."""
    if path.is_dir():
        return list(_folder(path))
    if not path.is_file():
        raise UserError(f"maps {path} do not exist: give a folder, an .npz or a .pt file")
    if path.suffix.lower() in {".pt", ".pth"}:
        return list(_torch(path))
    if path.suffix.lower() != ".npz":
        raise UserError(f"maps {path}: expected a folder, an .npz or a .pt file")
    return list(_batch(read_npz(path), str(path)))


def _wanted(category: Category) -> dict[str, int]:
    """Returns the places of test images by <defect>/<stem> and by <folder>/<stem>."""
    places: dict[str, int] = {}
    doubled: set[str] = set()
    for i, example in enumerate(category.test):
        stem = example.path.stem
        for key in {f"{example.defect}/{stem}", f"{example.path.parent.name}/{stem}"}:
            if places.setdefault(key, i) != i:
                doubled.add(key)
    return {key: i for key, i in places.items() if key not in doubled}


def _given_key(name: str) -> str:
    """Returns <folder>/<stem> of a submitted name, whatever folders stand before it."""
    path = PurePosixPath(name.replace("\\", "/"))
    known = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy", ".npz"}
    stem = path.stem if path.suffix.lower() in known else path.name
    return f"{path.parent.name}/{stem}"


def match(given: list[Given], category: Category, where: str) -> list[Given]:
    """Returns the maps in the order of the category's test images; UserError for any misfit."""
    if not category.test:
        raise UserError(f"{category.root} has no test image")
    places = _wanted(category)
    found: dict[int, Given] = {}
    foreign: list[str] = []
    for one in given:
        key = _given_key(one.name)
        if key not in places:
            foreign.append(key)
        elif places[key] in found:
            other = found[places[key]].name
            raise UserError(f"{where}: two maps for {key}: {other} and {one.name}")
        else:
            found[places[key]] = one
    if foreign:
        near = near_names(foreign[0], sorted(places)).partition(" Known:")[0]
        raise UserError(
            f"{where}: {len(foreign)} of {len(given)} maps belong to no test image of"
            f" {category.key}, first {foreign[0]!r}:{near or ' another split or dataset?'}"
        )
    lacking = [e.path for i, e in enumerate(category.test) if i not in found]
    if lacking:
        first = f"{lacking[0].parent.name}/{lacking[0].stem}"
        raise UserError(
            f"{where}: {len(lacking)} of {len(category.test)} test images of {category.key} have"
            f" no map, first {first}: a part of the test set is not ranked"
        )
    chosen = [found[i] for i in range(len(category.test))]
    shapes = sorted({one.map_HW.shape for one in chosen})
    if len(shapes) > 1:
        odd = next(o for o in chosen if o.map_HW.shape != chosen[0].map_HW.shape)
        raise UserError(
            f"{where}: maps differ in size: {chosen[0].name} {chosen[0].map_HW.shape}, {odd.name}"
            f" {odd.map_HW.shape}; one size a category is expected"
        )
    return chosen


def _mask(example: ExampleImage, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    drawn = example.read_mask()
    if drawn is None:
        return np.zeros(shape, dtype=np.uint8)
    return fit_mask(drawn, *shape).astype(np.uint8)


def _check_precision(given: npt.NDArray[Any], stored: npt.NDArray[Any], where: str) -> None:
    """Refuses scores that float32 mostly cannot tell apart, as a saturated sigmoid's near 1."""
    before, after = len(np.unique(given)), len(np.unique(stored))
    if after < before / 2:
        raise UserError(
            f"{where}: of {before} different scores float32 keeps {after} apart: give the scores"
            " before the sigmoid, or scale them"
        )


def _hash(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    files = walk(path, lambda _: True)
    return hash_options([[str(p.relative_to(path)), sha256_file(p)] for p in files])


def scores_of(path: Path, category: Category, options: Options) -> scorefile.Scores:
    """Returns a submission as scores; masks are resized to the maps' size (nearest)."""
    chosen = match(given_maps(path), category, str(path))
    shape = chosen[0].map_HW.shape
    maps, masks, items = [], [], []
    own = all(one.score is not None for one in chosen)
    for one, example in zip(chosen, category.test, strict=True):
        with np.errstate(over="ignore"):
            maps.append(one.map_HW.astype(np.float32))
        if not np.isfinite(maps[-1]).all():
            raise UserError(f"{path}: {one.name} has scores beyond float32's range")
        if one.map_HW.dtype == np.float64:
            _check_precision(one.map_HW, maps[-1], f"{path}: {one.name}")
        masks.append(_mask(example, (shape[0], shape[1])))
        item = {
            "path": str(example.path),
            "defect": example.defect,
            "anomalous": example.anomalous,
            "has_mask": example.mask is not None,
            **scorefile.image_scores(maps[-1]),
        }
        items.append(item | ({"score_own": one.score} if own else {}))
    protocol: dict[str, Any] = {
        "detector": options.method,
        "source": options.source,
        "resolution": int(shape[0]) if shape[0] == shape[1] else f"{shape[1]} x {shape[0]}",
        "image_scores": ["max", "avgpool16_max", *(["own"] if own else [])],
        "checkpoint_rule": "not stated",
        "backbone": "not stated",
        "submitted": True,
    }
    protocol |= dict(options.protocol)
    seed = {} if options.seed is None else {"seed": options.seed}
    return scorefile.Scores(
        category=category.key,
        maps_NHW=np.stack(maps),
        masks_NHW=np.stack(masks),
        items=items,
        protocol=protocol,
        run={**seed, "submission_sha256": _hash(path), "harness_version": __version__},
    )


def run(path: Path, category: Category, out: Path, options: Options) -> Path:
    """Publishes a submission as a score folder below OUT and returns it."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")
    scores = scores_of(path, category, options)
    folder = out / category.dataset / category.name / "scores"
    scorefile.write(folder, scores)
    return folder
