"""Training pairs as shards, whoever makes them: specification, run, metadata and card."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.data.category import Category
from sia_gen.core.data.dataset import Dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.foreground import rule_for
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.pixels.ranges import checked
from sia_gen.core.provenance import hash_options, sha256_bytes, sha256_file
from sia_gen.core.store.files import is_there
from sia_gen.core.store.objects import Location, is_url
from sia_gen.core.store.shards import MASK, NORMAL
from sia_gen.core.store.tars import TarBuilder
from sia_gen.generate.card import SHEET, Card, head, table, tail
from sia_gen.generate.content import Prepared
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


def hash_files(paths: Sequence[Path], root: Path) -> str:
    """Returns the hash of files' contents and of their names below a folder."""
    return hash_options([[os.path.relpath(p, root), sha256_file(p)] for p in paths])


def normal_image_facts(category: Category) -> dict[str, str]:
    """Returns hashes of the normal images and of the masks of their foreground, with its rule."""
    facts = {
        "normal_images_sha256": hash_files(category.train, category.root),
        "foreground": category.foreground,
        "foreground_sha256": "",
    }
    if category.foreground.startswith("masks "):
        masks = Path(category.foreground.removeprefix("masks "))
        files = [p for p in sorted(masks.iterdir()) if p.is_file()]
        facts |= {"foreground": "masks", "foreground_sha256": hash_files(files, masks)}
    return facts


def with_foreground(category: Category, given: str) -> Category:
    """Returns a category with the foreground that was asked for in place of its own."""
    rule = rule_for(given, category.name) if given else category.foreground
    return replace(category, foreground=rule)


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
            **described(with_foreground(category, options.foreground)),
            "dataset": category.dataset,
            "category": category.name,
            "seed": options.seed,
            "resolution": options.resolution,
            "format": FORMAT + (WITH_NORMAL if options.normal else ""),
        }
        if prefix := prefixes[category.dataset, category.name]:
            shared[category.key]["prefix"] = prefix
        if known := category.value_range:
            shared[category.key]["value_range"] = list(known)
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


def category_of(spec: PairShard, dataset: Dataset, given: dict[str, Any]) -> Category:
    """Returns the category of a specification as the run was planned with it."""
    category = with_foreground(dataset.one(spec.key), given["foreground"])
    return replace(category, given_range=checked(spec.value_range))


def require_unchanged(spec: PairShard, facts: dict[str, str]) -> None:
    """Raises UserError where hashes of files differ from those of a specification."""
    changed = [name for name, value in facts.items() if getattr(spec, name) != value]
    if changed:
        message = f"{spec.key}: {', '.join(changed)} differ here from what the run was planned"
        raise UserError(f"{message} with: the files were changed, or are others on this node")


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
    text = f"""{head(f"Anomalous pairs for {dataset}", pairs)}
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
