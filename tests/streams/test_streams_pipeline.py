"""Streams of WebDatasets: every sample once, shared between processes, nothing unsafe read."""

from __future__ import annotations

import http.server
import io
import itertools
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from shard_files import write_record, write_tar

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.core.store.shards import ShardReader, Synthetic
from sia_gen.streams import pipeline
from sia_gen.streams.addresses import as_place, open_tars
from sia_gen.streams.pipeline import SHUFFLED, Sample, stream

pytest.importorskip("webdataset")
SIDE = 8


def image(number: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), number % 256, dtype=np.uint8)


def shards(root: Path, count: int, each: int, *, recorded: bool = True) -> list[str]:
    made = []
    for number in range(count):
        first = number * each
        samples = [
            Synthetic(key=f"x-{i:05}", image=image(i), metadata={"index": i})
            for i in range(first, first + each)
        ]
        tar = root / f"x-{number:05}.tar"
        facts = write_tar(tar, samples)
        if recorded:
            write_record(tar, {"category": "d/x", "spec_hash": "t", **facts})
        made.append(str(tar))
    return made


def keys(samples: Iterator[Sample], count: int | None = None) -> list[str]:
    return [sample.key for sample in itertools.islice(samples, count)]


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, ranks: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(ranks))


@pytest.mark.parametrize("workers", [0, 1])
def test_in_order_the_samples_are_those_of_random_access(tmp_path: Path, workers: int) -> None:
    tars = open_tars(str(tmp_path), None) if shards(tmp_path, 3, 4) else None
    assert tars is not None
    reader = ShardReader(Path(url) for url in tars.urls)
    found = list(stream(tars.urls, workers=workers))
    assert [s.key for s in found] == [m.key for m in reader.members]
    for i, sample in enumerate(found):
        assert sample.image is not None
        np.testing.assert_array_equal(sample.image, reader.image(i))
        assert sample.metadata == reader.metadata(i)


@pytest.mark.parametrize("count", [6, 1], ids=["by shard", "by sample"])
def test_in_a_pass_two_processes_see_each_sample_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    urls = tuple(shards(tmp_path, count, 24 // count))
    passes: list[list[str]] = []
    for rank in (0, 1):
        as_rank(monkeypatch, rank, 2)
        passes.append(keys(stream(urls, seed=5, workers=0, split=True), 24))
    for first in (0, 12):  # two passes of 12 samples a process
        seen = [key for own in passes for key in own[first : first + 12]]
        assert sorted(seen) == [f"x-{i:05}" for i in range(24)]
    assert passes[0][:12] != sorted(passes[0][:12])
    assert passes[0][:12] != passes[0][12:]


def test_what_prepares_a_training_is_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = tuple(shards(tmp_path, 2, 6))
    drawn = []
    for rank in (0, 1):
        as_rank(monkeypatch, rank, 2)
        drawn.append(keys(stream(urls, seed=5, workers=0), 9))
    assert drawn[0] == drawn[1]


def test_worker_processes_share_the_samples(tmp_path: Path) -> None:
    urls = tuple(shards(tmp_path, 4, 4))
    seen = keys(stream(urls, seed=1, workers=2), 16)
    assert sorted(seen) == [f"x-{i:05}" for i in range(16)]


@pytest.mark.parametrize("few", [False, True], ids=["by number", "by bytes"])
def test_a_stream_holds_a_bounded_part_of_a_tar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: bool
) -> None:
    """However long a tar is, no more than the shuffle holds is read before the first sample."""
    shards(tmp_path, 1, 4 * SHUFFLED)
    read = 0

    class Counting(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal read
            content = super().read(size)
            read += len(content)
            return content

    path = tmp_path / "x-00000.tar"
    monkeypatch.setattr(pipeline, "open_file", lambda url: Counting(io.FileIO(url)))
    if few:
        monkeypatch.setattr(pipeline, "HELD_BYTES", 20 * len(encode_png(image(0))))
    samples = stream((str(path),), seed=1, workers=0)
    first = [next(samples).key]
    assert 0 < read < path.stat().st_size / (20 if few else 2)
    every = first + keys(samples, 4 * SHUFFLED - 1)
    assert len(set(every)) == 4 * SHUFFLED and every != sorted(every)


def other_peoples(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> str:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def test_other_peoples_tars_are_read_by_braces_and_over_http(tmp_path: Path) -> None:
    for number in range(2):
        png = encode_png(image(number))
        members = {f"a/{number}.rgb.png": png, f"a/{number}.cls": b"3", f"a/{number}.txt": b"x"}
        other_peoples(tmp_path / f"set-{number:03}.tar", members)
    wanted = ["a/0", "a/1"]
    braces = open_tars(f"{tmp_path}/set-{{000..001}}.tar", None)
    assert keys(stream(braces.urls)) == wanted
    assert braces.sha256 == open_tars(f"{tmp_path}/set-{{000..001}}.tar", None).sha256

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pytest.importorskip("aiohttp")
        web = open_tars(f"http://127.0.0.1:{server.server_port}/set-{{000..001}}.tar", None)
        assert keys(stream(web.urls, workers=0)) == wanted
        server.shutdown()


def test_compressed_tars_are_read_as_a_stream_alone(tmp_path: Path) -> None:
    members = {f"{i}.{kind}": encode_png(image(i)) for i in range(3) for kind in ("png", "npy")}
    url = other_peoples(tmp_path / "x.tar.gz", members)
    assert as_place(url) is None
    (sample, *rest) = stream(open_tars(url, None).urls, side=4)
    assert [sample.key, *(s.key for s in rest)] == ["0", "1", "2"]
    assert sample.image is not None and sample.image.shape == (4, 4, 3)
    with pytest.raises(UserError, match=r"it is compressed: give --stream"):
        ShardReader([Path(url)])
    (tmp_path / "x.tar.gz").write_bytes(Path(url).read_bytes()[:100])
    with pytest.raises(UserError, match=r"gz cannot be read as a tar"):
        list(stream((url,)))


def test_a_sample_larger_than_any_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MAX_MEMBER", 1000)
    url = other_peoples(tmp_path / "x.tar", {f"a.{i}.png": b"x" * 300 for i in range(5)})
    with pytest.raises(UserError, match="sample 'a' is of 1200 bytes: refused"):
        list(stream((url,), workers=0))


@pytest.mark.parametrize(
    "text", ["pipe:cat x.tar", "pipe:echo {0..3}", "ftp://host/x.tar", "s3://b/{0..1}::pipe:rm"]
)
def test_addresses_that_run_or_fetch_by_other_means_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"refused|scheme"):
        if as_place(text) is None:
            open_tars(text, None)


@pytest.mark.parametrize(
    ("members", "kind", "said"),
    [
        ({"a.pkl": b"x"}, tarfile.REGTYPE, "pickle"),
        ({"../a.png": b"x"}, tarfile.REGTYPE, "climbs out"),
        ({"a.png": b""}, tarfile.SYMTYPE, "no plain file"),
        ({"a.png": b"no picture"}, tarfile.REGTYPE, "a.png"),
        ({"a.cls": b"1"}, tarfile.REGTYPE, "0 images"),
        ({"a.json": b"{", "a.png": encode_png(image(1))}, tarfile.REGTYPE, "is not JSON"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_unsafe_or_damaged_is_one_line(
    tmp_path: Path, members: dict[str, bytes], kind: bytes, said: str, workers: int
) -> None:
    url = other_peoples(tmp_path / "x.tar", members, kind)
    with pytest.raises(UserError, match=said) as caught:
        list(stream((url,), workers=workers))
    assert "\n" not in str(caught.value)
    (tmp_path / "x.tar").write_bytes(b"no tar" * 300)
    with pytest.raises(UserError, match="cannot be read as a tar"):
        list(stream((url,), workers=workers))


def test_tarwriter_writes_the_same_bytes_as_our_builder_for_images(tmp_path: Path) -> None:
    """What webdataset's writer would give: the same tar, so that either may read or replace it."""
    import webdataset

    shards(tmp_path, 1, 3)
    ours = (tmp_path / "x-00000.tar").read_bytes()
    reader = ShardReader([tmp_path / "x-00000.tar"])
    buffer = io.BytesIO()
    facts = {"user": "", "group": "", "mode": 0o644, "mtime": 0, "encoder": False}
    with webdataset.TarWriter(buffer, **facts) as writer:
        with tarfile.open(tmp_path / "x-00000.tar") as tar:
            content = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        for member in reader.members:
            own = {kind: content[f"{member.key}.{kind}"] for kind in ("json", "png")}
            writer.write({"__key__": member.key, **own})
    assert buffer.getvalue() == ours
