"""What makes anomalous pairs while a detector is trained: a synthesis method, or a mixture.

`sdas` names one method of sia_gen/methods, `sdas:0.5,dtd:0.5` a mixture: each pair is made by one
of them, drawn by these weights. `none` is for detectors that are trained on normal images alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.normals import NormalImages
from detector.data.task import Task
from detector.mixture import NONE, parse
from detector.options import TrainOptions, model_options
from sia_gen import methods
from sia_gen.core.context import Context, Method
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask, is_image_name
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.plugins import load
from sia_gen.core.provenance import hash_options
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.shards import read_record
from sia_gen.core.store.walk import walk

STREAM_WORKERS = 2  # processes that read and decode a category's stream, for each rank


class Mixture:
    """Makes each pair by one of several methods, drawn by their weights."""

    def __init__(self, made: list[Method], weights: list[float]) -> None:
        self.made, self.weights = made, np.cumsum(weights)
        self.name = ",".join(method.name for method in made)

    def pair(self, normal: Array8, region: Mask, rng: np.random.Generator) -> Pair:
        """Returns one pair of the method that the first number drawn decides on."""
        chosen = int(np.searchsorted(self.weights, rng.random() * self.weights[-1], side="right"))
        return self.made[min(chosen, len(self.made) - 1)].pair(normal, region, rng)


def build(options: TrainOptions, context: Context) -> Method:
    """Returns the method, or mixture of methods, that options name."""
    weights = parse(options.source)
    made: list[Method] = []
    for name in weights:
        module = load(methods, name)
        own = model_options(module.Options, options.methods.get(name, {}))
        made.append(module.build(own, context))
    return made[0] if len(made) == 1 else Mixture(made, list(weights.values()))


def held_out_rule(options: TrainOptions, held: bool) -> Callable[[str], bool]:
    """Returns which synthetic images and textures a side may use, by the hash of their names.

    Without a held-out protocol training may use all of them.
    """
    if options.protocol != "held-out":
        return lambda _: True
    share = options.holdout or 0.0  # a held-out protocol names one
    return lambda key: (derive_seed("synthetic", key) / 2**63 < share) == held


def sources(
    options: TrainOptions,
    task: Task,
    normals: NormalImages,
    *,
    held: bool = False,
    streamed: Callable[[int], Callable[[], Array8]] | None = None,
) -> list[Method]:
    """Returns a method for each category of a task, whose normal images are `normals`.

    `streamed` gives what draws a category's synthetic images, by its place in the task.
    """
    if options.source == NONE:
        return []
    found = []
    for part, category in enumerate(task.categories):
        own = normals.of_part(part)

        def image(i: int, own: range = own) -> Array8:
            return normals.image(own[i])

        def foreground(i: int, own: range = own) -> Mask:
            return normals.foreground(own[i])

        def image_at(i: int, side: int, own: range = own) -> Array8:
            return normals.image_at(own[i], side)

        context = Context(
            resolution=options.resolution,
            category=category.key,
            kind=category.kind,
            normals=len(own),
            image=image,
            foreground=foreground,
            shards=task.tars[part],
            draw=None if streamed is None else streamed(part),
            takes=held_out_rule(options, held),
            image_at=None if options.tiles else image_at,  # a crop is at its own scale alone
        )
        found.append(build(options, context))
    return found


def training_sources(
    options: TrainOptions, task: Task, normals: NormalImages, step: int
) -> tuple[list[Method], list[Method] | None]:
    """Returns the sources of a training that begins after `step`, and those that prepare it where
    they differ: of a stream each process trains on its share, and all prepare with the same images.
    """
    if not task.streams:
        return sources(options, task, normals), None
    from sia_gen.streams.pipeline import Draws, Sample, stream

    side = options.resolution

    def share(part: int) -> Draws:
        def opened() -> Iterator[Sample]:
            seed = derive_seed(options.seed, "stream", part, step)
            urls = task.streams[part].urls
            return stream(urls, seed=seed, workers=STREAM_WORKERS, split=True, side=side)

        return Draws(opened, at_once=True)

    def same(part: int) -> Draws:
        def opened() -> Iterator[Sample]:
            seed = derive_seed(options.seed, "stream", part, "prepare")
            return stream(task.streams[part].urls, seed=seed, workers=0, side=side)

        return Draws(opened, at_once=False)

    preparing = None if step else sources(options, task, normals, streamed=same)
    return sources(options, task, normals, streamed=share), preparing


def needs_shards(text: str) -> bool:
    """Returns whether a source takes synthetic images from shards."""
    return any(getattr(load(methods, name), "SHARDS", False) for name in parse(text))


def identity(options: TrainOptions) -> dict[str, Any]:
    """Returns what a source's methods do, without the places of files: textures by their hash."""
    found = {}
    for name, own in options.methods.items():
        found[name] = dict(own)
        if own.get("textures") == "":
            raise UserError(f"source {name} needs a folder of textures: give --textures DIR")
        if "textures" in own:
            found[name]["textures"] = _hash_listing(Path(str(own["textures"])))
    return found


def _hash_listing(folder: Path) -> str:
    """Returns the hash of the names and sizes of the images below a folder."""
    if not folder.is_dir():
        raise UserError(f"textures {folder} is no folder: give the folder of DTD's images")
    files = walk(folder, is_image_name)
    return hash_options([[p.relative_to(folder).as_posix(), p.stat().st_size] for p in files])


def check_category(tars: list[Path], category: str, *, allow_foreign: bool) -> None:
    """Raises UserError where a shard was made for another category than the one to be trained."""
    for tar in tars:
        found = str((read_record(tar) or {}).get("category", "unknown"))
        if found != category and not allow_foreign:
            raise UserError(
                f"{tar} holds synthetic images of {found}, not of {category}: give that category's"
                " shards, or --allow-foreign-shards if this is what you want"
            )
