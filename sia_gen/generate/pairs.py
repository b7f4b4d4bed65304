"""Training pairs as shards, whoever makes them: specification, run, metadata and card."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.data.category import Category
from sia_gen.core.data.dataset import Dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store.files import is_there
from sia_gen.core.store.objects import Location, is_url
from sia_gen.core.store.shards import MASK, NORMAL
from sia_gen.core.store.tars import TarBuilder
from sia_gen.generate import normals
from sia_gen.generate.card import SHEET, Card, head, table, tail
from sia_gen.generate.content import (
    Prepared,
)
from sia_gen.generate.options import SynthesisOptions
from sia_gen.runs import folder
from sia_gen.runs.index import Finished
from sia_gen.runs.spec import Shard, cut, prefixes_of

FORMAT = "pairs-png-1"
WITH_NORMAL = "-normal"  # at the format's end: the normal images are in the shards
TRIES = 100  # draws of normal image and anomaly until the mask is not empty


@dataclass(frozen=True, kw_only=True, slots=True)
class PairShard(Shard):
    """One shard of pairs: everything that decides their bytes."""

    method: str  # name and version, such as nsa-1
    options: dict[str, Any]
    seed: int
    resolution: int
    normal_images_sha256: str
    sources_sha256: str  # of textures or synthetic images that the method takes
    foreground: str
    foreground_sha256: str
    format: str
    value_range: list[float] | None = None  # that files of more than 8 bits were read with

    def to_json(self) -> dict[str, Any]:
        """Returns the specification as a JSON object; a range only where there is one."""
        found = Shard.to_json(self)
        if self.value_range is None:
            del found["value_range"]
        return found

    @property
    def side(self) -> int:
        """The side of the images, in pixels."""
        return self.resolution

    @property
    def extras(self) -> tuple[str, ...]:
        """A pair's mask, and its normal image where it was asked for."""
        return (MASK, NORMAL) if self.format.endswith(WITH_NORMAL) else (MASK,)

    def fault(self, sample: Mapping[str, Any], images: Mapping[str, Array8]) -> str:
        """Returns what is wrong with a pair's mask or its image outside the mask, or ""."""
        mask = images[MASK][..., 0]
        if sha256_bytes(mask.tobytes()) != sample["mask_sha256"]:
            return "has another mask than its record"
        normal = images.get(NORMAL)
        if normal is not None and not np.array_equal(images[""][mask == 0], normal[mask == 0]):
            return "differs from its normal image outside its mask"
        return ""


def add_pair(
    builder: TarBuilder, key: str, pair: Pair, metadata: dict[str, Any], *, normal: bool
) -> None:
    """Appends a pair to a tar, with the hashes of its pixels and of its mask."""
    mask = pair.mask.astype(np.uint8) * 255
    extras = {MASK: encode_png(mask), **({NORMAL: encode_png(pair.normal)} if normal else {})}
    pixels = sha256_bytes(np.ascontiguousarray(pair.image).tobytes())
    metadata = {**metadata, "mask_sha256": sha256_bytes(mask.tobytes())}
    builder.add_encoded(key, encode_png(pair.image), ".png", metadata, pixels, extras)


def absolute(place: str) -> str:
    """Returns a folder's absolute path, for workers start elsewhere; anything else as it is."""
    return str(Path(place).resolve()) if is_there(place) else place


def prepared(
    kind: str,
    options: SynthesisOptions,
    dataset: Dataset,
    categories: Sequence[Category],
    out: Location,
    described: Callable[[Category], dict[str, Any]],
    *,
    given: dict[str, Any],
    facts: dict[str, Any] | None = None,
    threads: int = 1,
) -> Prepared:
    """Returns a checked run of pairs of any kind.

    `described` gives a category's method, options and hashes; `given` is for the workers and
    `facts` for run.json, beside the options and where the data lies.
    """
    parts = cut(options.per_category, options.shard_size, len(categories))
    prefixes = prefixes_of([(c.dataset, c.name) for c in categories])
    shared: dict[str, Any] = {}
    for category in categories:
        shared[category.key] = {
            **described(normals.with_foreground(category, options.foreground)),
            "dataset": category.dataset,
            "category": category.name,
            "seed": options.seed,
            "resolution": options.resolution,
            "format": FORMAT + (WITH_NORMAL if options.normal else ""),
        }
        if prefix := prefixes[category.dataset, category.name]:
            shared[category.key]["prefix"] = prefix
        shared[category.key] |= normals.range_facts(category)
    data = options.data if is_url(options.data) else dataset.origin
    found = Prepared(
        kind=kind,
        out=out,
        recipe={
            "per_category": options.per_category,
            "shard_size": options.shard_size,
            "categories": shared,
        },
        facts={"options": asdict(options), "data": data, **(facts or {})},
        given={"data": data, "foreground": absolute(options.foreground), **given},
        planned=[PairShard(**part, **one) for one in shared.values() for part in parts],
        threads=threads,
    )
    found.require_room()
    return found


def planned(document: dict[str, Any]) -> list[PairShard]:
    """Returns all shards that a folder of pairs is to hold."""
    recipe = folder.recipe_of(document)
    try:
        parts = cut(int(recipe["per_category"]), int(recipe["shard_size"]))
        found = recipe["categories"].values()
        return [PairShard(**part, **shared) for shared in found for part in parts]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder.NAME}: its recipe is not readable: {error!r}") from error


def provenance(
    spec: PairShard,
    category: Category,
    pair: Pair,
    *,
    index: int,
    seed: int,
    attempt: int,
    normal: int,
    **more: Any,
) -> dict[str, Any]:
    """Returns a pair's metadata: its place, its seed, its normal image, and what a kind adds."""
    return {
        "dataset": spec.dataset,
        "category": spec.category,
        "index": index,
        "seed": seed,
        "attempt": attempt,
        "method": spec.method,
        "normal": Path(os.path.relpath(category.train[normal], category.root)).as_posix(),
        **more,
        "mask_share": round(float(pair.mask.mean()), 6),
    }


def card(document: dict[str, Any], finished: Finished) -> Card:
    """Returns what the dataset card says of pairs."""
    shared = list(folder.recipe_of(document)["categories"].values())
    dataset = "+".join(dict.fromkeys(str(facts["dataset"]) for facts in shared))
    method, side = shared[0]["method"], shared[0]["resolution"]
    pairs = finished.images.total()
    here = f" **Incomplete:** {len(finished.shards)} of {finished.planned} shards are here."
    text = f"""{head(f"Anomalous pairs for {dataset}", finished)}
{pairs} pairs of image and mask for {len(shared)} categories, {side} x {side} pixels, made by
`sia-gen synthesize` (method {method}) from normal images only.{"" if finished.complete else here}

{SHEET if finished.first else ""}
{table(finished)}
- `<key>.png` is the image, `<key>.mask.png` its mask (0 or 255). Outside its mask an image equals
  the normal image that its metadata names, bit for bit.
- These images inherit the licence of the images that they were made from.
{tail(finished).lstrip()}"""
    description = (
        f"{pairs} pairs of anomalous image and mask for {dataset}, made from normal images only by"
        f" the method {method}."
    )
    return Card(name=f"{dataset}-{method}", text=text, description=description)
