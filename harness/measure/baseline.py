"""The plain baseline: distance of local colour statistics to those of the training images.

Around every pixel, at each scale, the mean and the standard deviation of each colour; the distance
to the nearest such statistics in the training images; the mean over scales is the map. It has no
network and no synthetic anomalies: a detector must beat it to be worth its cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from detector import scorefile
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, read_size
from sia_gen.core.provenance import hash_options, require_same, sha256_file
from sia_gen.core.store.files import read_json, write_json
from sia_gen.core.version import __version__

NAME = "colour-statistics"
LARGEST = 256  # pixels a side: larger images are reduced to this unless a size is given
SAMPLES = 100_000  # training positions a scale, spread evenly over images and positions

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the baseline depends on; windows are squares with sides in pixels."""

    size: int
    windows: tuple[int, ...] = (5, 9, 17)


def default_size(category: Category) -> int:
    """Returns the median of the training images' shorter sides, at most 256."""
    sides = [min(read_size(path)) for path in category.train]
    return min(LARGEST, int(np.median(sides)))


def statistics(image_HWC: Array8, window: int) -> Floats:
    """Returns each pixel's window mean and standard deviation of R, G, B: (H, W, 6), 0..1."""
    values = image_HWC.astype(np.float64) / 255.0
    size = (window, window, 1)
    mean = ndimage.uniform_filter(values, size, mode="reflect")
    square = ndimage.uniform_filter(values * values, size, mode="reflect")
    return np.concatenate([mean, np.sqrt(np.clip(square - mean * mean, 0.0, None))], axis=-1)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Per window: the training statistics' scale (6,) and a tree of them, scaled to spread 1."""

    windows: tuple[int, ...]
    spreads: tuple[Floats, ...]
    trees: tuple[spatial.KDTree, ...]

    def score(self, image_HWC: Array8) -> npt.NDArray[np.float32]:
        """Returns the map (H, W), >= 0: distance to the nearest training statistics, in spreads.

        Statistics vary slowly within their window, so distances are taken on a grid and
        interpolated between.
        """
        height, width = image_HWC.shape[:2]
        rows, columns = _grid(height), _grid(width)
        total = np.zeros((len(rows), len(columns)))
        for window, spread, tree in zip(self.windows, self.spreads, self.trees, strict=True):
            values = statistics(image_HWC, window)[np.ix_(rows, columns)] / spread
            total += tree.query(values)[0]
        y = np.interp(np.arange(height), rows, np.arange(len(rows)))
        x = np.interp(np.arange(width), columns, np.arange(len(columns)))
        at = np.meshgrid(y, x, indexing="ij")
        full = ndimage.map_coordinates(total / len(self.windows), at, order=1, mode="nearest")
        return np.asarray(full, dtype=np.float32)


def _grid(side: int) -> npt.NDArray[np.intp]:
    step = max(2, side // 64)
    return np.arange((side - 1) % step // 2, side, step)


def fit(images: list[Array8], windows: tuple[int, ...]) -> Model:
    """Returns the model of training images, uint8 (H, W, 3)."""
    spreads, trees = [], []
    for window in windows:
        per_image = max(1, SAMPLES // len(images))
        rows = []
        for i, image in enumerate(images):
            values = statistics(image, window).reshape(-1, 6)
            step = max(1, len(values) // per_image)
            rows.append(values[i % step :: step])  # another phase in each image
        samples = np.concatenate(rows)
        spread = samples.std(axis=0)
        # A statistic that never varies in training still counts when it varies in a test image.
        spreads.append(np.maximum(spread, 1.0 / 255.0))
        trees.append(spatial.KDTree(samples / spreads[-1]))
    return Model(windows=windows, spreads=tuple(spreads), trees=tuple(trees))


def score_category(category: Category, options: Options) -> scorefile.Scores:
    """Returns the scores of a category's test images by a model of its training images."""
    if not category.test:
        raise UserError(
            f"{category.root} has no test image: expected {category.root}/test/<defect>"
        )
    model = fit(
        [category.read_image(path, options.size) for path in category.train], options.windows
    )
    maps, masks, items = [], [], []
    for example in category.test:
        maps.append(model.score(category.read_image(example.path, options.size)))
        drawn = example.read_mask(options.size)
        masks.append((np.zeros(maps[-1].shape) if drawn is None else drawn).astype(np.uint8))
        items.append(
            {
                "path": str(example.path),
                "defect": example.defect,
                "anomalous": example.anomalous,
                "has_mask": example.mask is not None,
                **scorefile.image_scores(maps[-1]),
            }
        )
    return scorefile.Scores(
        category=category.key,
        maps_NHW=np.stack(maps),
        masks_NHW=np.stack(masks),
        items=items,
        protocol=protocol_of(options),
        run={"value_range": list(category.value_range)} if category.value_range else {},
    )


def protocol_of(options: Options) -> dict[str, Any]:
    """Returns what the baseline's score files say of how they came about."""
    return {
        "detector": NAME,
        "source": "none",
        "resolution": options.size,
        "windows": list(options.windows),
        "image_scores": ["max", "avgpool16_max"],
        "checkpoint_rule": "none",
        "backbone": "none",
        "code_version": __version__,
    }


def _fingerprint(category: Category) -> str:
    paths = [*category.train, *(e.path for e in category.test)]
    paths += [mask for e in category.test for mask in e.masks]
    return hash_options([[str(p.relative_to(category.root)), sha256_file(p)] for p in paths])


def run(
    data: str,
    categories: str,
    out: Path,
    *,
    size: int | None = None,
    value_range: tuple[float, float] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Scores categories with the baseline and returns their score folders, <out>/<key>/scores.

    A finished category with the same options and images is skipped; with others it is refused.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder for the run")
    folders: list[Path] = []
    plans: list[tuple[Category, Options, dict[str, Any], Path]] = []
    for category in open_dataset(data, value_range).select(categories):
        options = Options(size=size or default_size(category))
        stated = {"detector": NAME, "category": category.key, **asdict(options)}
        if category.value_range:
            stated["value_range"] = list(category.value_range)
        stated |= {"windows": list(options.windows), "images_sha256": _fingerprint(category)}
        folder = out / category.dataset / category.name
        if (folder / "options.json").exists():
            require_same(folder, read_json(folder / "options.json"), stated)
        plans.append((category, options, stated, folder))
    for category, options, stated, folder in plans:
        folders.append(folder / "scores")
        if (folder / "options.json").exists() and (folders[-1] / "scores.json").is_file():
            tell(f"{category.key}: scored before")
            continue
        if note := category.range_note():
            tell(note)
        scores = score_category(category, options)
        write_json(folder / "options.json", stated)
        scorefile.write(folders[-1], scores)
        tell(f"{category.key}: {len(scores.items)} images scored at {options.size} pixels")
    return folders
