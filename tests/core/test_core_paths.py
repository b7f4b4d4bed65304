"""Names from outside never become a path outside: keys, members, words of JSON files."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_gen.care import verify
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store import objects, shards
from sia_gen.core.store.mirror import local_copy, local_folder
from sia_gen.core.store.objects import ObjectPath, locate
from sia_gen.core.store.paths import checked_name, inside
from sia_gen.core.store.shards import ShardReader

HOSTILE = [
    "../x", "a/../../x", "..", "/etc/passwd", "//host/share", "C:x", "c:/x", "..\\x",
    "a\\..\\..\\x",
    "\\\\host\\share", "a\0b", "CON", "nul.png", "a/COM1.txt", "aux ", "lpt9. .json", "", ".",
    "\ud800.png",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    for root in (tmp_path, locate("memory://bucket/pub")):
        with pytest.raises(UserError, match="refused"):
            inside(root, name)
    with pytest.raises(UserError, match="refused"):
        checked_name(name, "run.json")


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "..a", "a..b", "console", "ü/ß.tar", ".x"])
def test_ordinary_names_stay_as_they_are(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a/", None, 3, ["a"]])
def test_one_part_of_a_path_is_no_path(name: object) -> None:
    with pytest.raises(UserError):
        checked_name(name, "run.json")


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    root, other = tmp_path / "run", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (root / "shards").symlink_to(other)
    with pytest.raises(UserError, match="by a link"):
        inside(root, "shards/x.tar")
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(UserError):
        inside(root, "loop/x")


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab./\\:C\0 "), max_size=12))
def test_whatever_is_accepted_lies_inside(name: str) -> None:
    try:
        found = inside(Path("/root/of"), name)
    except UserError:
        return
    assert Path(os.path.normpath(found)).is_relative_to("/root/of")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectPath:
    """A prefix of the in-memory store, whose copies go to a cache of their own."""
    import fsspec

    fsspec.filesystem("memory").store.clear()
    monkeypatch.setenv("SIA_GEN_CACHE", str(tmp_path / "cache"))
    place = locate("memory://bucket/pub")
    assert isinstance(place, ObjectPath)
    return place


def _put(key: str, content: bytes) -> None:
    """Writes an object under exactly this key, as a hostile owner of a bucket can."""
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    MemoryFileSystem.store[key] = MemoryFile(MemoryFileSystem(), key, content)


def test_a_key_that_climbs_out_is_not_copied(bucket: ObjectPath, tmp_path: Path) -> None:
    _put("/bucket/pub/brick/good.png", b"1")
    _put("/bucket/pub/brick/../../../../../../../escaped.txt", b"2")
    before = {p for p in tmp_path.parent.rglob("escaped.txt")}
    with pytest.raises(UserError, match="climbs out"):
        local_folder(bucket)
    assert {p for p in tmp_path.parent.rglob("escaped.txt")} == before
    one = ObjectPath("memory", PurePosixPath("/bucket/pub/.."))
    _put("/bucket/pub/..", b"3")
    with pytest.raises(UserError):
        local_copy(one)


def test_a_link_in_the_cache_is_not_followed_out(bucket: ObjectPath, tmp_path: Path) -> None:
    _put("/bucket/pub/brick/good.png", b"1")
    target = local_folder(bucket)
    (tmp_path / "victim").mkdir()
    (target / "sub").symlink_to(tmp_path / "victim")
    _put("/bucket/pub/sub/x.png", b"2")
    with pytest.raises(UserError, match="by a link"):
        local_folder(bucket)
    assert not list((tmp_path / "victim").iterdir())


def _tar(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "C:/a.png", "a\\..\\..\\b.png", "NUL.png"])
def test_members_of_a_tar_with_such_names_are_refused(tmp_path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    with pytest.raises(UserError, match="no plain file inside"):
        ShardReader([_tar(tmp_path / "a.tar", member)])


def test_a_driver_file_cannot_name_what_is_swept(tmp_path: Path) -> None:
    from sia_gen.runs import lock

    victim = tmp_path / "victim.json"
    victim.write_text("{}")
    drivers = tmp_path / "run" / lock.DRIVERS
    drivers.mkdir(parents=True)
    holder = {"pid": 1, "host": "elsewhere", "token": "../../victim"}
    (drivers / "abc.json").write_text(json.dumps(holder))
    os.utime(drivers / "abc.json", (1, 1))
    lock.sweep(tmp_path / "run")
    assert victim.is_file()


def test_large_objects_go_to_disk_in_blocks(
    bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies, checksums and verification never hold a whole object."""
    content = bytes(range(256)) * 40
    for name, kept in (("large.tar", content), ("whole.tar", content[:1024]), ("empty", b"")):
        _put(f"/bucket/pub/brick/{name}", kept)
    monkeypatch.setattr(objects, "BLOCK", 512)
    asked: list[int] = []
    real = ObjectPath.read_range
    monkeypatch.setattr(
        ObjectPath,
        "read_range",
        lambda self, offset, size: asked.append(size) or real(self, offset, size),
    )
    monkeypatch.setattr(ObjectPath, "read_bytes", None)
    large = bucket / "brick/large.tar"
    assert local_copy(large).read_bytes() == content
    assert shards._sha256(large) == sha256_bytes(content)
    with verify._on_disk(large) as local:
        assert local.read_bytes() == content
    folder = local_folder(bucket)
    found = {p.name: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    assert found == {"large.tar": len(content), "whole.tar": 1024, "empty": 0}
    assert max(asked) == 512
    monkeypatch.setattr(ObjectPath, "stat", lambda _self: objects.Stat(2048, 0.0))
    with pytest.raises(UserError, match="changed while"):
        local_copy(bucket / "brick/whole.tar")
    assert not [p for p in tmp_path.rglob(".tmp-*")]
