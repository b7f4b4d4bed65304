"""The images of one category that a quality record compares: synthetic, and three real sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from harness.quality.synthetic import Images, Stored, Streamed
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, read_image, resize_image
from sia_gen.core.pixels.ranges import ValueRange
from sia_gen.core.seeds import generator
from sia_gen.streams.addresses import Tars


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a quality record depends on besides images and networks."""

    image_size: int | None = None  # pixels; the synthetic images' own size where None
    source: str | None = None  # the synthesis method's name; read from the run where None
    limit: int | None = None  # synthetic images used; all where None
    value_range: ValueRange | None = None  # of files of more than 8 bits; else recorded or measured
    stream: bool = False  # read the synthetic images in order, without a local copy


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The images of one category at one size: synthetic, and the three real sets' files."""

    synthetic: Images
    chosen: tuple[int, ...]
    anomalous: tuple[Path, ...]
    held_out: tuple[Path, ...]
    train: tuple[Path, ...]
    thinned: tuple[int, ...]  # of `train`, as many as there are synthetic images
    size: int
    value_range: ValueRange | None = None

    def read(self, path: Path) -> Array8:
        """Returns a real image, uint8 (size, size, 3)."""
        return read_image(path, self.size, self.value_range)

    def strengths(self) -> list[float | None]:
        """Returns the strength each synthetic image was made with, None where it is not said."""
        stated = (self.synthetic.metadata(i).get("strength") for i in self.chosen)
        return [float(s) if isinstance(s, int | float) else None for s in stated]

    def synthetic_images(self) -> Iterator[Array8]:
        """Yields the synthetic images, uint8 (size, size, 3)."""
        return (resize_image(i, self.size) for i in islice(self.synthetic, len(self.chosen)))

    def real_images(self, paths: Iterable[Path]) -> Iterator[Array8]:
        """Yields real images, uint8 (size, size, 3)."""
        return (self.read(path) for path in paths)


def gather(tars: Tars, category: Category, options: Options) -> Sets:
    """Returns the image sets of a category.

    FID depends on how many images each side has, so the reference comparison takes as many
    training images as there are synthetic ones, where there are enough: `thinned`.
    """
    reader: Images = Streamed(tars, options.limit) if options.stream else Stored(tars)
    count = min(len(reader), options.limit or len(reader))
    first = next(iter(reader))
    if options.image_size is None and first.shape[0] != first.shape[1]:
        size = f"{first.shape[1]} x {first.shape[0]}"
        raise UserError(
            f"{tars.urls[0]}: images of {size} pixels are not square: give --resolution"
        )
    rng = generator("quality", category.key)
    order = rng.permutation(len(category.train))[:count]
    return Sets(
        synthetic=reader,
        chosen=tuple(range(count)),
        anomalous=tuple(e.path for e in category.test if e.anomalous),
        held_out=tuple(e.path for e in category.test if not e.anomalous),
        train=category.train,
        thinned=tuple(sorted(order.tolist())),
        size=options.image_size or first.shape[0],
        value_range=category.value_range,
    )
