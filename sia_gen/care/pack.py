"""Packing: an existing folder of images (a released archive, say) -> the same shards and records.

    DIR/<category>/**/*.jpg    or    DIR/*.jpg, one category

PNG, JPEG and WebP files keep their bytes where a reader of shards decodes them as they are meant;
anything else (16 bits, transparency, rotation by EXIF, TIFF, BMP) is stored as PNG of its pixels.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from sia_gen.core.errors import UserError
from sia_gen.core.keys import key_prefixes, plain_name, sample_key
from sia_gen.core.pixels.encoding import ENCODINGS
from sia_gen.core.pixels.images import decode, is_image_name, read_image, read_size
from sia_gen.core.pixels.ranges import ValueRange, checked, measure
from sia_gen.core.provenance import hash_options, sha256_bytes, sha256_file, versions
from sia_gen.core.store.objects import ObjectPath, require_conditional_put
from sia_gen.core.store.shards import is_done, publish
from sia_gen.core.store.tars import Tar, TarBuilder
from sia_gen.core.store.walk import is_hidden, walk
from sia_gen.generate import card
from sia_gen.runs import folder as run_folder
from sia_gen.runs import index, lock
from sia_gen.runs.shard_health import HealthMeter

KEPT = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
ORIENTATION = 0x0112  # EXIF's tag


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """What is packed, and where it goes."""

    source: str
    out: str
    dataset: str = ""
    shard_size: int = 1000

    def __post_init__(self) -> None:
        """Refuses values that make no shards."""
        if not 1 <= self.shard_size <= 1_000_000:
            raise UserError(f"--shard-size {self.shard_size}: expected 1 to 1000000")
        if "/" in self.dataset or self.dataset in {".", ".."}:
            raise UserError(f"--dataset {self.dataset!r}: expected a name, not a path")


@dataclass(frozen=True, kw_only=True)
class PackSpec:
    """One shard of packed files: their names below the source, and their hashes."""

    dataset: str
    category: str
    shard: int
    first: int
    files: tuple[tuple[str, str], ...]
    keys: str = ""  # what its images' keys begin with, where it is not the category's plain name
    value_range: ValueRange | None = None  # of a category whose files have more than 8 bits

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PackSpec:
        """Returns the specification in a run.json."""
        files = tuple((name, sha) for name, sha in value["files"])
        value_range = checked(value.get("value_range"))
        return cls(**{**value, "files": files, "value_range": value_range})

    def to_json(self) -> dict[str, Any]:
        """Returns the specification; keys and a range only where there are own ones."""
        found = asdict(self)
        return {k: v for k, v in found.items() if k not in {"keys", "value_range"} or v}

    @property
    def key(self) -> str:
        """The category's full name, dataset/category."""
        return f"{self.dataset}/{self.category}"

    @property
    def name(self) -> str:
        """The shard's name, category-00000."""
        return f"{self.category}-{self.shard:05}"

    @property
    def file(self) -> str:
        """The tar's path inside the run folder, with forward slashes."""
        return f"shards/{self.dataset}/{self.category}/{self.name}.tar"

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.files)

    @property
    def side(self) -> None:
        """Packed images may have any size."""
        return None

    @property
    def spec_hash(self) -> str:
        """The hash that a finished shard's record must carry."""
        return hash_options(self.to_json())

    def expects(self, position: int) -> dict[str, Any]:
        """Returns what the metadata of an image of this shard must say."""
        return {"index": self.first + position, "source": self.files[position][0]}

    def sample_key(self, position: int) -> str:
        """Returns an image's key in the tar."""
        return sample_key(self.keys or plain_name(self.category), self.first + position)


def _categories(source: Path) -> Iterator[tuple[str, list[Path]]]:
    own = sorted(path for path in source.iterdir() if path.is_file() and is_image_name(path))
    if own:
        yield source.name, own
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        if is_hidden(folder.name):
            continue
        files = walk(folder, is_image_name)
        if files:
            yield folder.name, files


def scan(options: PackOptions) -> list[PackSpec]:
    """Returns the shards that a folder makes; UserError for a folder without images."""
    source = Path(options.source).resolve()
    if not source.is_dir():
        raise UserError(f"{options.source} is no folder: give one with images")
    dataset = options.dataset or source.name
    specs: list[PackSpec] = []
    found = list(_categories(source))
    prefixes = key_prefixes([(dataset, category) for category, _ in found])
    for category, files in found:
        for file in files:
            read_size(file)
        measured, own = measure(files), prefixes[dataset, category]
        for shard, start in enumerate(range(0, len(files), options.shard_size)):
            part = files[start : start + options.shard_size]
            named = tuple((p.relative_to(source).as_posix(), sha256_file(p)) for p in part)
            specs.append(
                PackSpec(
                    dataset=dataset,
                    category=category,
                    shard=shard,
                    first=start,
                    files=named,
                    keys=own
                    if (own := prefixes[dataset, category]) != plain_name(category)
                    else "",
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
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        upright = image.getexif().get(ORIENTATION, 1) == 1
        plain = image.mode in {"RGB", "L"} and "transparency" not in image.info
        suffix = KEPT.get(image.format or "")
        still = getattr(image, "n_frames", 1) == 1
    if suffix is not None and upright and plain and still:
        return content, suffix
    return ENCODINGS["png"].encode(read_image(path, value_range=value_range)), ".png"


def _build(spec: PackSpec, source: Path) -> tuple[Tar, HealthMeter]:
    builder, meter = TarBuilder(), HealthMeter()
    for position, (name, sha) in enumerate(spec.files):
        path = source / name
        content, suffix = _stored(path, spec.value_range)
        kept = sha256_bytes(content) == sha
        if kept is False and sha256_file(path) != sha:
            raise UserError(f"{path} was changed since it was read: run again")
        pixels = decode(content, str(path))
        digest = sha256_bytes(pixels.tobytes())
        metadata = {
            "dataset": spec.dataset,
            "category": spec.category,
            **spec.expects(position),
            "source_sha256": sha,
            "encoding": f"kept-{suffix[1:]}" if kept else "png-1",
        }
        builder.add_encoded(spec.sample_key(position), content, suffix, metadata, digest)
        meter.add(pixels, digest)
    return builder.finish(), meter


def planned(content: dict[str, Any]) -> list[PackSpec]:
    """Returns the shards that the run.json of a packed folder names."""
    try:
        return [PackSpec.from_json(value) for value in content["shards"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"run.json: its shards are not readable: {error}") from error


def stored_options(content: dict[str, Any], out: str) -> PackOptions:
    """Returns the options that a folder was packed with."""
    try:
        return PackOptions(**{**content["options"], "source": content["source"], "out": out})
    except (KeyError, TypeError) as error:
        raise UserError(f"run.json: its options are not readable: {error}") from error


def _facts(spec: PackSpec, tar: Tar, meter: HealthMeter, source: Path) -> dict[str, Any]:
    return {
        "category": spec.key,
        "shard": spec.shard,
        "first": spec.first,
        "spec": spec.to_json(),
        "spec_hash": spec.spec_hash,
        **tar.facts,
        "health": meter.result().to_json(),
        "made": {
            "source": str(source),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "versions": versions("numpy", "Pillow"),
        },
    }


def pack(options: PackOptions, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Packs a folder, or what is missing of it, and returns the closing figures."""
    specs = scan(options)
    source = Path(options.source).resolve()
    out = run_folder.check_output(options.out)
    run_folder.require_apart(out, source)
    content: dict[str, Any] = {
        "schema": run_folder.SCHEMA,
        "kind": run_folder.PACKED,
        "options": asdict(options),
        "source": str(source),
        "shards": [
            {**spec.to_json(), "files": [list(named) for named in spec.files]} for spec in specs
        ],
    }
    if isinstance(out, ObjectPath):
        require_conditional_put(out)
    else:
        out.mkdir(parents=True, exist_ok=True)
    made = shards_made = 0
    with lock.hold(out):
        started = run_folder.start_pack(out, content)
        for position, spec in enumerate(specs, start=1):
            path = out / spec.file
            if is_done(path, spec.spec_hash):
                continue
            tar, meter = _build(spec, source)
            record = _facts(spec, tar, meter, source)
            publish(path, tar, spec.spec_hash, lambda record=record: record)  # type: ignore[misc]
            made, shards_made = made + spec.count, shards_made + 1
            twins = record["health"]["duplicates"]
            odd = f", {twins} images occur more than once" if twins else ""
            say(f"[{position}/{len(specs)}] {spec.name}: {spec.count} images{odd}")
        for stray in run_folder.strays(out):
            stray.unlink(missing_ok=True)
        finished = index.gather(out, specs)
        facts = {"dataset": specs[0].dataset, "source": source.name}
        index.write(out, facts, finished)
        card.write_packed(out, specs[0].dataset, source.name, finished, started)
    return {
        "out": str(out),
        "images": sum(spec.count for spec in specs),
        "images_made_now": made,
        "shards": len(specs),
        "shards_made_now": shards_made,
    }
