"""A development set for `textures` that holds no pixel of its test images: to choose recipes on.

    python benchmarks/strips.py --out runs/strips/textures
    detector train --recipe realnet-demo --data runs/strips/textures --categories all --shards RUN --out runs/try
    detector score runs/try --data runs/strips/textures --categories all
    harness evaluate runs/try --out runs/try/results

Training crops come from the upper training strip of each photograph, test crops from the lower
one, with defects drawn as in `textures` but from other seeds. The shipped diffusion model has seen
both strips.
"""  # noqa: E501

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from sia_gen.core.data import textures
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.seeds import generator

TRAIN, GOOD, PER_DEFECT = 160, 80, 16


def _crop(photo: Array8, rng: np.random.Generator) -> Array8:
    return textures.crop_of(photo, (0, len(photo)), rng)


def _save(path: Path, gray: Array8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(gray))


def write(root: Path, category: str) -> None:
    """Writes one category in MVTec-AD's layout."""
    photo = textures.photograph(category)
    upper, lower = photo[: textures.STRIP[0]], photo[textures.STRIP[1] :]
    rng = generator("strips", category)
    for i in range(TRAIN):
        _save(root / "train" / "good" / f"{i:03}.png", _crop(upper, rng))
    for i in range(GOOD):
        _save(root / "test" / "good" / f"{i:03}.png", _crop(lower, rng))
    for defect in textures.DEFECTS:
        for i in range(PER_DEFECT):
            image, mask = textures.draw_defect(_crop(lower, rng), defect, rng)
            _save(root / "test" / defect / f"{i:03}.png", image)
            truth = root / "ground_truth" / defect / f"{i:03}_mask.png"
            _save(truth, mask.astype(np.uint8) * 255)


@click.command(help=__doc__)
@click.option("--out", required=True, type=click.Path(path_type=Path, exists=False))
def main(out: Path) -> None:
    """Writes all categories below a new folder named textures, so that shards fit it."""
    if out.name != "textures" or out.exists():
        raise click.UsageError(f"--out {out}: give a new folder named textures")
    for category in textures.CATEGORIES:
        write(out / category, category)


if __name__ == "__main__":
    main()
