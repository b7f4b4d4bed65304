"""The webdataset pipeline of a stream: split, opened, checked, shuffled, decoded in workers.

    shard list -> node -> worker -> members -> samples -> shuffle -> decode

With fewer shards than readers (processes times workers) each reader takes every so manyth sample
instead of every so manyth shard. A worker holds at most SHUFFLED encoded samples or, of large ones,
HELD_BYTES and one more, and AHEAD decoded ones; of what is neither image nor metadata it holds the
name alone. No tar is ever held or copied.
"""

from __future__ import annotations

import itertools
import json
import random
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import webdataset
from torch.utils.data import IterableDataset
from webdataset.tariterators import base_plus_ext, group_by_keys
from webdataset.utils import pytorch_worker_info

from sia_gen.core.errors import UserError
from sia_gen.core.pixels import png
from sia_gen.core.pixels.images import Array8, resize_image
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.paths import relative_name
from sia_gen.core.store.shards import IMAGE_SUFFIXES, MASK, PAIR_SUFFIXES, PICKLES
from sia_gen.core.store.tars import MAX_MEMBER, UNREADABLE
from sia_gen.streams.addresses import open_file

SHUFFLED = 256  # encoded samples among which a worker draws the next one
HELD_BYTES = 64 * 2**20  # of those
AHEAD = 2  # decoded samples that a worker has ready
_IMAGES = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A streamed image, uint8 (H, W, 3), with its key and metadata; the image is None where only
    the rest was asked for."""

    key: str
    image: Array8 | None
    metadata: dict[str, Any]


def _members(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the files of tars as webdataset's grouping takes them, {} behind each tar.

    webdataset's own expander reads whatever a member claims to be: here links, pickles, foreign
    paths, and members and samples larger than any image, are refused, and what no sample is made of
    (masks, labels, other people's arrays) is passed over: its content is b"".
    """
    for source in sources:
        url, key, held = source["url"], "", 0
        try:
            with open_file(url) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    if member.isdir():
                        continue
                    _check(url, member)
                    content = tar.extractfile(member) if _is_used(member.name) else None
                    data = b"" if content is None else content.read()
                    before, key = key, str(base_plus_ext(member.name)[0])
                    held = len(data) + (held if key == before else 0)
                    if held > MAX_MEMBER:
                        raise UserError(f"{url}: sample {key!r} is of {held} bytes: refused")
                    yield {"fname": member.name, "data": data, "__url__": url}
        except UserError:
            raise
        except UNREADABLE as error:
            raise UserError(f"{url} cannot be read as a tar: {_one_line(error)}") from error
        yield {}


def _is_used(name: str) -> bool:
    suffix = name.rpartition("/")[2].partition(".")[2].lower()
    return suffix == "json" or (
        suffix.rpartition(".")[2] in _IMAGES and suffix not in PAIR_SUFFIXES
    )


def _check(url: str, member: tarfile.TarInfo) -> None:
    if not member.isreg() or member.issparse():
        raise UserError(f"{url}: member {member.name!r} is no plain file")
    relative_name(member.name, f"{url}: a member")
    if member.name.rpartition(".")[2].lower() in PICKLES:
        raise UserError(f"{url}: member {member.name!r} is a pickle, which may run code")
    if not 0 <= member.size <= MAX_MEMBER:
        raise UserError(f"{url}: member {member.name!r} claims {member.size} bytes: refused")


def _image_of(sample: dict[str, Any]) -> str:
    """Returns the suffix of a sample's one image."""
    own = [name for name in sample if name in _IMAGES]
    every = [
        name for name in sample if name.rpartition(".")[2] in _IMAGES and name not in PAIR_SUFFIXES
    ]
    found = own or every
    if len(found) != 1:
        where = f"{sample['__url__']}: sample {sample['__key__']!r}"
        raise UserError(f"{where} has {len(found)} images, expected one (png, webp or jpg)")
    return found[0]


def _shuffled(samples: Iterable[dict[str, Any]], seed: int) -> Iterator[dict[str, Any]]:
    """Yields samples in an order drawn from `seed`.

    webdataset's own shuffle bounds the number of samples, not their bytes: 256 photographs of a
    line-scan camera are gigabytes.
    """
    rng, held, size = random.Random(seed), list[dict[str, Any]](), 0
    for sample in itertools.chain(samples, [None]):
        if sample is not None:
            held.append(sample)
            size += _size(sample)
        while held and (sample is None or len(held) >= SHUFFLED or size > HELD_BYTES):
            place = rng.randrange(len(held))
            held[place], held[-1] = held[-1], held[place]
            drawn = held.pop()
            size -= _size(drawn)
            yield drawn


def _size(sample: dict[str, Any]) -> int:
    return sum(len(value) for value in sample.values())


def _decoded(sample: dict[str, Any], *, pixels: bool, side: int | None) -> Sample:
    suffix = _image_of(sample)
    where = f"{sample['__url__']}:{sample['__key__']}"
    image = png.read(sample[suffix], f"{where}.{suffix}") if pixels else None
    if image is not None and side is not None:
        image = resize_image(image, side)
    try:
        metadata = json.loads(sample.get("json", b"{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}.json is not JSON: {error}") from error
    # What is no object says nothing that is asked for here.
    return Sample(
        key=sample["__key__"],
        image=image,
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def _is_alone(sample: dict[str, Any]) -> bool:
    """Returns whether an image has no mask: what has one is a pair, not an image to draw."""
    return MASK[1:] not in sample


@dataclass(frozen=True)
class _Fault:
    """What went wrong in a worker: exceptions would come back with a worker's traceback."""

    message: str


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


class _Source(IterableDataset[Any]):
    """The samples of one reader: a single pass in order, or shuffled passes without end."""

    def __init__(
        self,
        urls: tuple[str, ...],
        seed: int | None,
        decode: Callable[[dict[str, Any]], Sample],
        *,
        split: bool,
    ) -> None:
        self.urls, self.seed, self.decode, self.split = urls, seed, decode, split

    def __iter__(self) -> Iterator[Sample | _Fault]:
        passes: Iterable[int] = (0,) if self.seed is None else itertools.count()
        try:
            for number in passes:
                sample = None
                for sample in self._pass(number):
                    yield sample
                if sample is None and self.seed is not None:
                    raise UserError(
                        f"{self.urls[0]} and {len(self.urls) - 1} more hold fewer images without"
                        " mask than there are readers: give fewer processes, or more samples"
                    )
        except (
            UserError,
            ValueError,
        ) as error:  # ValueError: webdataset on a name that comes twice
            yield _Fault(_one_line(error))

    def _pass(self, number: int) -> Iterator[Sample]:
        rank, ranks, worker, workers = pytorch_worker_info()
        readers = workers * (ranks if self.split else 1)
        splits = [webdataset.split_by_worker]
        if self.split:
            splits = [webdataset.split_by_node, *splits]
        by_shard = len(self.urls) >= readers
        order = shuffle = None
        if self.seed is not None:
            order = derive_seed(self.seed, "shards", number)  # the same for all readers
            own = derive_seed(self.seed, "samples", number, rank if self.split else 0, worker)
            shuffle = partial(_shuffled, seed=own)
        return iter(
            webdataset.DataPipeline(
                webdataset.SimpleShardList(list(self.urls), seed=order),
                *(splits if by_shard else ()),
                _members,
                group_by_keys,
                None if self.seed is None else webdataset.select(_is_alone),
                *(() if by_shard else splits),
                shuffle,
                webdataset.map(self.decode),
            )
        )


def _unchanged(sample: Any) -> Any:
    return sample


def stream(
    urls: tuple[str, ...],
    *,
    seed: int | None = None,
    workers: int = 1,
    split: bool = False,
    pixels: bool = True,
    side: int | None = None,
) -> Iterator[Sample]:
    """Yields the samples of tars: once in their order without a seed, else shuffled without end.

    Endless passes leave out pairs of image and mask. `workers` processes read and decode (0: this
    one); in order takes one at most, so that order is the tars'. `split` gives each process of a
    training (RANK, WORLD_SIZE) its share. Without `pixels` nothing is decoded; with `side` workers
    resize to side x side. UserError where a tar cannot be read, or holds what is refused.
    """
    if seed is None and workers > 1:
        raise ValueError("samples in order come from one worker")
    loader = webdataset.WebLoader(
        _Source(urls, seed, partial(_decoded, pixels=pixels, side=side), split=split),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
    )
    for sample in loader:
        if isinstance(sample, _Fault):
            raise UserError(sample.message)
        yield sample


class Draws:
    """Images of an endless stream, one a call, from any thread."""

    def __init__(self, make: Callable[[], Iterator[Sample]], *, at_once: bool) -> None:
        """Takes what opens the stream; `at_once` starts its workers now, before threads are."""
        self._make, self._lock = make, threading.Lock()
        self._stream: Iterator[Sample] | None = None
        self._first: list[Sample] = []
        if at_once:
            self._stream = make()
            self._first.append(next(self._stream))

    def __call__(self) -> Array8:
        """Returns the next image, uint8 (H, W, 3)."""
        with self._lock:
            if self._first:
                sample = self._first.pop()
            else:
                self._stream = self._stream or self._make()
                sample = next(self._stream)
        if sample.image is None:
            raise RuntimeError("a stream without pixels has no images to draw")
        return sample.image
