"""Training crops of `textures` by the thousand, for its diffusion model: the same pixels, more places.

    python benchmarks/crops.py --out runs/crops/textures
    sia-gen train --recipe textures-64 --data runs/crops/textures --out runs/textures-64

The 240 training crops a category of `textures` are few: a network learns them by heart, and shrinks the
contrast of anything else. Here crops lie anywhere in the same two training strips of each photograph;
half of grass and gravel is mirrored left to right (bricks are lit from one side). Test crops come from the
strip between them: no pixel of it is in here.
"""  # noqa: E501

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from sia_gen.core.data import textures
from sia_gen.core.pixels.images import encode_png
from sia_gen.core.seeds import generator

MIRRORED = ("grass", "gravel")


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--count", default=4000, show_default=True, help="Crops a category.")
def main(out: Path, count: int) -> None:
    """Writes the folder, in MVTec-AD's layout."""
    for name in textures.CATEGORIES:
        photo, rng = textures.photograph(name), generator("crops", name)
        strips = ((0, textures.STRIP[0]), (textures.STRIP[1], len(photo)))
        folder = out / name / "train" / "good"
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            crop = textures.crop_of(photo, strips[i % 2], rng)
            if name in MIRRORED and rng.uniform() < 0.5:
                crop = np.ascontiguousarray(crop[:, ::-1])
            (folder / f"{i:05}.png").write_bytes(encode_png(crop))


if __name__ == "__main__":
    main()
