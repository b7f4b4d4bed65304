"""Foreign and broken shards are told by name; nothing of them is run, extracted or guessed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import shard_files

from sia_gen.core.errors import UserError
from sia_gen.core.pixels import png
from sia_gen.core.pixels.images import encode_png
from sia_gen.core.store import shards
from sia_gen.core.store.files import create_bytes
from sia_gen.core.store.tars import Synthetic, Tar, TarBuilder

IMAGE = encode_png(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def tar_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("a.png", IMAGE), ("a.pkl", b"code")], "'a.pkl' is a pickle"),
        ([("a.png", IMAGE), ("a.meta.pickle", b"code")], "is a pickle"),
        ([("a.pth", b"code")], "is a pickle"),
        ([("s0.15_1.png", IMAGE)], "a dot in its key"),
        ([("a.png", IMAGE), ("a.png", IMAGE)], "'a' occurs twice"),
        ([("a.json", b"{}")], "hold no image"),
        ([], "hold no image"),
        ([("../a.png", IMAGE)], "no plain file inside"),
    ],
)
def test_tars_that_are_refused(
    members: list[tuple[str, bytes]], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        shards.ShardReader([tar_of(tmp_path / "x.tar", *members)])


@pytest.mark.parametrize(
    "content", [b"", b"<html>", gzip.compress(b"x" * 1000)], ids=["empty", "html", "gzip"]
)
def test_files_that_are_no_tars(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable uncompressed tar"):
        shards.ShardReader([path])


def test_members_of_others_are_left_alone(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", ("a.cls", b"3"), ("a.png", IMAGE), ("a.txt", b"caption"))
    reader = shards.ShardReader([path])
    assert len(reader) == 1 and reader.metadata(0) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"[1]", "not a JSON object"), (b'{"s": NaN}', "NaN"), (b"{", "is not JSON")],
)
def test_metadata_that_is_none(text: bytes, words: str, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", ("a.png", IMAGE), ("a.json", text))
    with pytest.raises(UserError, match=words):
        shards.ShardReader([path]).metadata(0)


def test_the_same_key_in_two_shards_is_two_images(tmp_path: Path) -> None:
    pair = [tar_of(tmp_path / f"{name}.tar", ("a.png", IMAGE)) for name in "xy"]
    assert len(shards.ShardReader(pair)) == 2


def test_a_tar_that_is_shorter_than_its_record_is_refused(tmp_path: Path) -> None:
    """Cut at a member's end it is still a tar: only the record can tell."""
    path = tmp_path / "x.tar"
    image = np.zeros((4, 4, 3), np.uint8)
    facts = shard_files.write_tar(
        path, [Synthetic(key=f"k{i}", image=image, metadata={"index": i}) for i in range(3)]
    )
    shard_files.write_record(path, {"spec_hash": "x", **facts})
    with tarfile.open(path) as tar:
        end = tar.getmembers()[4].offset
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match=r"has \d+ bytes, its record says"):
        shards.ShardReader([path])


def test_a_record_of_a_newer_schema_is_none(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", ("a.png", IMAGE))
    shards.record_path(path).write_text(json.dumps({"schema": 99, "spec_hash": "x"}))
    assert shards.read_record(path) is None
    assert not shards.is_done(path, "x")


def built(value: int) -> Tar:
    builder = TarBuilder()
    image = np.full((4, 4, 3), value, np.uint8)
    builder.add(Synthetic(key="k", image=image, metadata={"index": 0}))
    return builder.finish()


def test_the_facts_lead_to_the_images_and_hash_the_tar() -> None:
    builder = TarBuilder()
    images = [np.full((9, 5, 3), 50 * i, np.uint8) for i in range(3)]
    for i, image in enumerate(images):
        builder.add(Synthetic(key=f"k{i}", image=image, metadata={"index": i}))
    tar = builder.finish()
    assert tar.facts["sha256"] == hashlib.sha256(tar.content).hexdigest()
    assert tar.facts["md5"] == hashlib.md5(tar.content, usedforsecurity=False).hexdigest()
    for image, (offset, size) in zip(images, tar.facts["offsets"], strict=True):
        assert tar.content[offset : offset + size] == png.encode(image)


def test_the_first_finished_shard_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    first = shards.publish(path, built(1), "spec", lambda: {"spec_hash": "spec", **built(1).facts})
    again = shards.publish(path, built(2), "spec", lambda: {"spec_hash": "spec", **built(2).facts})
    assert again == first == shards.read_record(path)
    assert path.read_bytes() == built(1).content
    other = shards.publish(path, built(3), "new", lambda: {"spec_hash": "new", **built(3).facts})
    assert other["spec_hash"] == "new" and path.read_bytes() == built(3).content


def test_a_tar_without_a_record_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "RECORD_COMES", 0.2)
    path = tmp_path / "x.tar"
    path.write_bytes(b"somebody's half")
    shards.publish(path, built(1), "spec", lambda: {"spec_hash": "spec", **built(1).facts})
    assert shards.is_done(path, "spec", checksum=True)


@pytest.mark.parametrize("links", [True, False])
def test_of_many_threads_one_creates(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(95, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    won: list[int] = []

    def race(number: int) -> None:
        if create_bytes(tmp_path / "x", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "x").read_text() == str(won[0])
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
