"""Packed files: an existing folder of images (a released archive, say) -> the same shards.

    DIR/<category>/**/*.jpg    or    DIR/*.jpg, one category

PNG, JPEG and WebP files keep their bytes where a reader of shards decodes them as they are meant;
anything else (16 bits, transparency, rotation by EXIF, TIFF, BMP) is stored as PNG of its pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.decoding import decoding, open_limited
from sia_gen.core.pixels.encoding import ENCODINGS
from sia_gen.core.pixels.images import decode, is_image_name, read_image, read_size
from sia_gen.core.pixels.ranges import ValueRange, checked, measure
from sia_gen.core.provenance import sha256_bytes, sha256_file, versions
from sia_gen.core.store.documents import read_limited
from sia_gen.core.store.files import is_there
from sia_gen.core.store.tars import MAX_MEMBER, TarBuilder
from sia_gen.core.store.walk import is_hidden, walk
from sia_gen.core.text import markdown
from sia_gen.generate.card import SHEET, Card, head, table, tail
from sia_gen.generate.content import Made, Prepared, WorkerConfig, stored_options, stored_text
from sia_gen.generate.options import PackOptions
from sia_gen.runs import folder
from sia_gen.runs.index import Finished
from sia_gen.runs.shard_health import HealthMeter
from sia_gen.runs.spec import Shard, prefixes_of

KIND = "sia-gen pack"
HEAVY = False

KEPT = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
ORIENTATION = 0x0112  # EXIF's tag


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedShard(Shard):
    """One shard of packed files: their names below the source, and their hashes."""

    files: tuple[tuple[str, str], ...]
    value_range: ValueRange | None = None  # of a category whose files have more than 8 bits

    def to_json(self) -> dict[str, Any]:
        """Returns the specification as a JSON object; its count is that of its files."""
        content = Shard.to_json(self)
        del content["count"]
        if self.value_range is None:
            del content["value_range"]
        else:
            content["value_range"] = list(self.value_range)
        return {**content, "files": [list(named) for named in self.files]}

    def expects(self, position: int) -> dict[str, Any]:
        """Returns what the metadata of an image of this shard must say."""
        return {"index": self.first + position, "source": self.files[position][0]}


def _categories(source: Path) -> Iterator[tuple[str, list[Path]]]:
    own = sorted(path for path in source.iterdir() if path.is_file() and is_image_name(path))
    if own:
        yield source.name, own
    for place in sorted(path for path in source.iterdir() if path.is_dir()):
        if is_hidden(place.name):
            continue
        files = walk(place, is_image_name)
        if files:
            yield place.name, files


def scan(options: PackOptions) -> list[PackedShard]:
    """Returns the shards that a folder makes; UserError for a folder without images."""
    if not is_there(options.source) or not Path(options.source).is_dir():
        raise UserError(f"{options.source[:200]} is no folder: give one with images")
    source = Path(options.source).resolve()
    dataset = options.dataset or source.name
    specs: list[PackedShard] = []
    found = list(_categories(source))
    prefixes = prefixes_of([(dataset, category) for category, _ in found])
    for category, files in found:
        for file in files:
            read_size(file)
        measured = measure(files)
        for shard, start in enumerate(range(0, len(files), options.shard_size)):
            part = files[start : start + options.shard_size]
            named = tuple((p.relative_to(source).as_posix(), sha256_file(p)) for p in part)
            specs.append(
                PackedShard(
                    dataset=dataset,
                    category=category,
                    shard=shard,
                    first=start,
                    count=len(named),
                    files=named,
                    prefix=prefixes[dataset, category],
                    value_range=measured.value_range if measured else None,
                )
            )
    if not specs:
        message = f"{options.source} holds no image: expected DIR/<category>/*.jpg or DIR/*.png"
        raise UserError(message)
    if len({spec.name for spec in specs}) != len(specs):
        raise UserError(f"{options.source}: a category is named like the folder itself: rename it")
    return specs


def _stored(path: Path, value_range: ValueRange | None) -> tuple[bytes, str]:
    """Returns a file's bytes and suffix as they go into a shard."""
    content = read_limited(path, MAX_MEMBER)
    with decoding(path), open_limited(io.BytesIO(content), path) as image:
        upright = image.getexif().get(ORIENTATION, 1) == 1
        plain = image.mode in {"RGB", "L"} and "transparency" not in image.info
        suffix = KEPT.get(image.format or "")
        still = getattr(image, "n_frames", 1) == 1
    if suffix is not None and upright and plain and still:
        return content, suffix
    return ENCODINGS["png"].encode(read_image(path, value_range=value_range)), ".png"


def prepare(options: PackOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with the source or the output."""
    specs = scan(options)
    source = Path(options.source).resolve()
    out = folder.check_output(options.out)
    folder.require_apart(out, source)
    prepared = Prepared(
        kind=KIND,
        out=out,
        recipe={"shards": [spec.to_json() for spec in specs]},
        facts={"options": asdict(options), "source": str(source)},
        given={"source": str(source)},
        planned=specs,
        summary={"dataset": specs[0].dataset, "source": source.name},
    )
    prepared.require_room()
    return prepared


def planned(document: dict[str, Any]) -> list[PackedShard]:
    """Returns the shards that the run.json of a packed folder names."""
    try:
        return [
            PackedShard(
                **{
                    **value,
                    "count": len(value["files"]),
                    "files": tuple((name, sha) for name, sha in value["files"]),
                    "value_range": checked(value.get("value_range")),
                }
            )
            for value in folder.recipe_of(document)["shards"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder.NAME}: its shards are not readable: {error}") from error


def stored(document: dict[str, Any], out: str, *, data: str | None, model: str | None) -> Prepared:
    """Returns the run of this run.json, checked again, with its source moved if given."""
    if model is not None:
        raise UserError(f"--model {model}: no model made packed images; leave it away")
    options: PackOptions = stored_options(PackOptions, document, out=out)
    return prepare(replace(options, source=data or stored_text(document, "source", options.source)))


class Packer:
    """Reads files of a folder into shards."""

    device = "cpu"

    def __init__(self, config: WorkerConfig) -> None:
        self._source = Path(config.given["source"])

    def prepare(self, spec: PackedShard) -> None:
        """Does nothing: each file is compared with its hash when its turn comes."""
        del spec

    def make(self, spec: PackedShard, on_images: Callable[[int], None]) -> Made:
        """Returns a shard of files; UserError where one is no longer what it was."""
        builder, meter = TarBuilder(), HealthMeter()
        for position, (name, sha) in enumerate(spec.files):
            path = self._source / name
            content, suffix = _stored(path, spec.value_range)
            kept = sha256_bytes(content) == sha
            if not kept and sha256_file(path) != sha:
                raise UserError(f"{path} was changed since it was read: run again")
            pixels = decode(content, str(path))
            digest = sha256_bytes(pixels.tobytes())
            expected = spec.expects(position)
            metadata = {
                "dataset": spec.dataset,
                "category": spec.category,
                **expected,
                "source_sha256": sha,
                "encoding": f"kept-{suffix[1:]}" if kept else "png-1",
            }
            builder.add_encoded(
                spec.sample_key(expected["index"]), content, suffix, metadata, digest
            )
            meter.add(pixels, digest)
            on_images(position + 1)
        return Made(
            tar=builder.finish(),
            facts={"health": meter.result().to_json()},
            made={"source": str(self._source), "versions": versions("numpy", "Pillow")},
        )


def load(config: WorkerConfig) -> Packer:
    """Returns what packs files in this process."""
    return Packer(config)


def card(document: dict[str, Any], finished: Finished) -> Card:
    """Returns what the dataset card says of packed images."""
    dataset = planned(document)[0].dataset
    source = Path(stored_text(document, "source", "")).name
    images = finished.images.total()
    text = f"""{head(f"{dataset}, packed", finished)}
{images} images of {len(finished.images)} categories, packed from the folder {markdown(source)}
by `sia-gen pack`. The images keep the licence they came with.

{SHEET}
{table(finished)}{tail(finished)}"""
    description = f"{images} images, packed from the folder {source}."
    return Card(name=dataset, text=text, description=description)
