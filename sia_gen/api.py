"""Models, pairs and shards from Python: what the commands do, on objects in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sia_gen import methods
from sia_gen.core.context import context_of
from sia_gen.core.data.category import Category
from sia_gen.core.errors import UserError
from sia_gen.core.options import from_values
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.plugins import load as load_plugin
from sia_gen.core.seeds import generator
from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import locate
from sia_gen.core.store.shards import MASK, ShardReader, find_shards, read_record

if TYPE_CHECKING:
    from sia_gen.generate.model import Generator

TRIES = 100  # draws of normal image and anomaly until the mask is not empty


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image of a shard, uint8 (H, W, 3), with its mask where the shard holds pairs."""

    key: str
    image: Array8
    mask: Mask | None
    metadata: dict[str, Any]


def load_model(
    model: str | PathLike[str],
    *,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 0,
    sampler: str = "auto",
    force: bool = False,
) -> Generator:
    """Returns a trained diffusion model, `textures-64` or a folder, ready to make images.

    `steps` 0 and `sampler` auto are the model's own.
    `model.images(category, seeds, strengths)` gives uint8 images (B, H, W, 3). UserError for a
    model that failed its health check, unless `force`.
    """
    from sia_gen.generate import model as models

    where = models.locate(fspath(model))
    facts = models.describe(where)
    models.require_health(where, facts, force=force)
    return models.load(where, device=device, precision=precision, steps=steps, sampler=sampler)


def make_pairs(
    category: Category,
    method: str = "nsa",
    *,
    count: int | None = None,
    resolution: int = 256,
    seed: int = 0,
    shards: str | PathLike[str] | None = None,
    **options: Any,
) -> Iterator[Pair]:
    """Yields training pairs of a category's normal images: anomalous image, normal image, mask.

    `count` None is without end; `shards` is a run of synthetic images, for method sdas; `options`
    are the method's own. Pair k depends on the seed and k alone. UserError where a hundred draws
    gave no anomaly.
    """
    tars: tuple[Path, ...] = ()
    if shards is not None:
        tars = tuple(find_shards(local_folder(locate(fspath(shards))), category.key))
    context = context_of(category, resolution, tars)
    plugin = load_plugin(methods, method)
    built = plugin.build(from_values(plugin.Options, options, f"method {method}"), context)
    for index in itertools.count() if count is None else range(count):
        for attempt in range(TRIES):
            rng = generator(seed, "pair", category.key, index, attempt)
            normal = int(rng.integers(context.normals))
            pair: Pair = built.pair(context.image(normal), context.foreground(normal), rng)
            if pair.mask.any():
                yield pair
                break
        else:
            raise UserError(
                f"{category.key}: {TRIES} tries gave no anomaly inside the foreground"
                f" ({category.foreground}): look at it with `sia-gen preview --foregrounds`"
            )


def read_shards(run: str | PathLike[str], category: str | None = None) -> Iterator[Sample]:
    """Yields the images of a run's finished shards, of one category (dataset/name) if given."""
    for tar in find_shards(local_folder(locate(fspath(run))), category):
        samples = (read_record(tar) or {}).get("samples") or [{}]
        paired, reader = "mask_sha256" in samples[0], ShardReader([tar])
        for index, member in enumerate(reader.members):
            yield Sample(
                key=member.key,
                image=reader.image(index),
                mask=reader.extra(index, MASK)[..., 0] > 0 if paired else None,
                metadata=reader.metadata(index),
            )
