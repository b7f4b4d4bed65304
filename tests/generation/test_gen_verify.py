"""Verification finds every damage, repair mends exactly that, byte for byte."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import gen_support as support
import pytest

from sia_gen.care.repair import repair
from sia_gen.care.verify import verify
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.shards import find_shards
from sia_gen.generate.options import ExecutionOptions

TAR = "shards/mini/grass/grass-00001.tar"
LOCAL = ExecutionOptions(executor="local")


def _rewrite_record(tar: Path, **changes: object) -> None:
    path = tar.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _forge(tar: Path, content: bytes) -> None:
    """Replaces a tar and makes its record agree in size and hash: only the inside can tell."""
    tar.write_bytes(content)
    _rewrite_record(tar, bytes=len(content), sha256=sha256_file(tar))


def cut_at_a_member(tar: Path) -> None:
    with tarfile.open(tar) as file:
        third = file.getmembers()[6]
    _forge(tar, tar.read_bytes()[: third.offset])


def cut_in_the_middle(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes()[:5000])


def flip_a_bit(tar: Path) -> None:
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(bytes(content))


def delete(tar: Path) -> None:
    tar.unlink()


def delete_record(tar: Path) -> None:
    tar.with_suffix(".json").unlink()


def tear_record(tar: Path) -> None:
    path = tar.with_suffix(".json")
    path.write_bytes(path.read_bytes()[:100])


def empty_record(tar: Path) -> None:
    tar.with_suffix(".json").write_bytes(b"")


def delete_both(tar: Path) -> None:
    delete(tar)
    delete_record(tar)


def other_spec(tar: Path) -> None:
    _rewrite_record(tar, spec_hash="0" * 64)


def not_a_tar(tar: Path) -> None:
    _forge(tar, b"<html>not found</html>")


def _retar(tar: Path, change: Callable[[str, bytes], bytes]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(tar) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            content = change(member.name, file.read())
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    _forge(tar, buffer.getvalue())


def break_a_png(tar: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content[:60] if name == "grass-00000010.png" else content

    _retar(tar, change)


def swap_pixels(tar: Path) -> None:
    with tarfile.open(tar) as old:
        first = old.extractfile("grass-00000008.png")
        assert first is not None
        other = first.read()

    _retar(tar, lambda name, content: other if name == "grass-00000010.png" else content)


def swap_seed(tar: Path) -> None:
    record = json.loads(tar.with_suffix(".json").read_text())
    record["samples"][0]["seed"] += 1
    _rewrite_record(tar, samples=record["samples"])


def lose_the_specification(tar: Path) -> None:
    path = tar.with_suffix(".json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "spec"}))


def other_places(tar: Path) -> None:
    _rewrite_record(tar, offsets=[["0", 5.0]])


DAMAGES = [
    (cut_at_a_member, "count"),
    (cut_in_the_middle, "size"),
    (flip_a_bit, "sha256"),
    (delete, "missing"),
    (delete_both, "missing"),
    (delete_record, "record"),
    (tear_record, "record"),
    (empty_record, "record"),
    (other_spec, "spec"),
    (not_a_tar, "tar"),
    (break_a_png, "image"),
    (swap_pixels, "pixels"),
    (swap_seed, "metadata"),
    (lose_the_specification, "record"),
    (other_places, "record"),
]


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    return out


def test_a_whole_run_has_no_problems(finished: Path) -> None:
    report = verify(finished)
    assert report.problems == ()
    assert (report.shards, report.images) == (9, 60)


@pytest.mark.parametrize(("damage", "kind"), DAMAGES, ids=lambda v: getattr(v, "__name__", v))
def test_damage_is_found_and_mended(
    damage: Callable[[Path], None], kind: str, run: Path, mini: Path, finished: Path
) -> None:
    del mini  # the run's data must exist: repair reads it where run.json says it lies
    damage(run / TAR)
    report = verify(run)
    assert [(p.kind, p.file) for p in report.problems] == [(kind, TAR)]
    assert report.condemned() == {TAR}
    untouched = {p: p.stat().st_mtime_ns for p in run.rglob("*.tar") if p != run / TAR}
    figures = repair(run, LOCAL)
    assert figures["shards_made_now"] == 1
    assert support.stable_files(run) == support.stable_files(finished)
    assert untouched == {path: path.stat().st_mtime_ns for path in untouched}


def test_a_record_that_lacks_something_is_told_by_the_run(run: Path, mini: Path) -> None:
    """Words of other types are no reason for a traceback, wherever records are read."""
    lose_the_specification(run / TAR)
    with pytest.raises(UserError, match=r"grass-00001\.json is no whole record .*sia-gen repair"):
        support.run(support.options(run, mini), LOCAL)
    _rewrite_record(run / TAR, schema=[], category={})
    assert [p.kind for p in verify(run).problems] == ["record"]
    assert len(find_shards(run, "mini/grass")) == 2


def test_leftovers_are_found_and_swept_and_foreign_files_are_left(run: Path) -> None:
    stray = run / "shards/mini/grass/.tmp-grass-00001.tar-77-abcd"
    stray.write_bytes(b"half")
    foreign = run / "shards/mini/grass/notes.txt"
    foreign.write_text("mine")
    kinds = {(p.kind, p.file) for p in verify(run).problems}
    assert kinds == {
        ("stray", stray.relative_to(run).as_posix()),
        ("foreign", foreign.relative_to(run).as_posix()),
    }
    figures = repair(run, LOCAL)
    assert not stray.exists() and foreign.exists()
    assert figures["foreign"] == ["shards/mini/grass/notes.txt"]


def test_images_that_occur_twice_are_named(run: Path) -> None:
    """Both shards are whole and agree with their records; only their comparison can tell."""
    twin = run / "shards/mini/grass/grass-00000.tar"
    record = json.loads(twin.with_suffix(".json").read_text())
    stolen = record["samples"][0]["pixels_sha256"]
    with tarfile.open(twin) as file:
        member = file.extractfile("grass-00000000.png")
        assert member is not None
        picture = member.read()

    def change(name: str, content: bytes) -> bytes:
        if name == "grass-00000008.png":
            return picture
        if name == "grass-00000008.json":
            metadata = {**json.loads(content), "pixels_sha256": stolen}
            return json.dumps(metadata, sort_keys=True).encode()
        return content

    _retar(run / TAR, change)
    samples = json.loads((run / TAR).with_suffix(".json").read_text())["samples"]
    samples[0]["pixels_sha256"] = stolen
    _rewrite_record(run / TAR, samples=samples)
    (problem,) = verify(run).problems
    assert (problem.kind, problem.file) == ("duplicate", TAR)


def test_an_index_that_is_gone_is_told(run: Path) -> None:
    (run / "index.json").unlink()
    (problem,) = verify(run).problems
    assert problem.kind == "index"
