"""The webdataset pipeline of a stream: split, opened, checked, shuffled, decoded in workers.

    shard list -> node -> worker -> members -> samples -> shuffle -> decode

With fewer shards than readers (processes times workers) each reader takes every so manyth sample
instead of every so manyth shard. A process holds SHUFFLED encoded samples a worker, and the few
decoded ones that workers have ready; no tar is ever held or copied.
"""

from __future__ import annotations

import itertools
import json
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import webdataset
from torch.utils.data import IterableDataset
from webdataset.tariterators import group_by_keys
from webdataset.utils import pytorch_worker_info

from sia_gen.core.errors import UserError
from sia_gen.core.pixels import png
from sia_gen.core.pixels.images import Array8
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.paths import relative_name
from sia_gen.core.store.shards import IMAGE_SUFFIXES, MASK, PAIR_SUFFIXES, PICKLES
from sia_gen.core.store.tars import MAX_MEMBER, UNREADABLE
from sia_gen.streams.addresses import open_file

SHUFFLED = 256  # encoded samples among which a worker draws the next one
AHEAD = 4  # decoded samples that a worker has ready
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
    paths and members larger than any image are refused before they are read.
    """
    for source in sources:
        url = source["url"]
        try:
            with open_file(url) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    if member.isdir():
                        continue
                    _check(url, member)
                    content = tar.extractfile(member)
                    if content is not None:
                        yield {"fname": member.name, "data": content.read(), "__url__": url}
        except UserError:
            raise
        except UNREADABLE as error:
            raise UserError(f"{url} cannot be read as a tar: {_one_line(error)}") from error
        yield {}


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


def _decoded(sample: dict[str, Any], *, pixels: bool) -> Sample:
    suffix = _image_of(sample)
    where = f"{sample['__url__']}:{sample['__key__']}"
    image = png.read(sample[suffix], f"{where}.{suffix}") if pixels else None
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
        self, urls: tuple[str, ...], seed: int | None, *, split: bool, pixels: bool
    ) -> None:
        self.urls, self.seed, self.split, self.pixels = urls, seed, split, pixels

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
            shuffle = webdataset.shuffle(SHUFFLED, initial=SHUFFLED // 4, seed=own)
        return iter(
            webdataset.DataPipeline(
                webdataset.SimpleShardList(list(self.urls), seed=order),
                *(splits if by_shard else ()),
                _members,
                group_by_keys,
                None if self.seed is None else webdataset.select(_is_alone),
                *(() if by_shard else splits),
                shuffle,
                webdataset.map(partial(_decoded, pixels=self.pixels)),
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
) -> Iterator[Sample]:
    """Yields the samples of tars: once in their order without a seed, else shuffled without end.

    Endless passes leave out pairs of image and mask. `workers` processes read and decode (0: this
    one); in order takes one at most, so that order is the tars'. `split` gives each process of a
    training (RANK, WORLD_SIZE) its share. Without `pixels` nothing is decoded. UserError where a
    tar cannot be read, or holds what is refused.
    """
    if seed is None and workers > 1:
        raise ValueError("samples in order come from one worker")
    loader = webdataset.WebLoader(
        _Source(urls, seed, split=split, pixels=pixels),
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
