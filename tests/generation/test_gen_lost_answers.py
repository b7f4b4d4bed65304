"""Stores that apply a request and lose its answer, drivers that start together, clocks apart."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gen_support as support
import pytest
from lossy_proxy import LossyProxy
from moto_server import forget_buckets

from sia_gen.core.errors import LockedError, UserError
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store import objects
from sia_gen.core.store.objects import ObjectPath, Stat, locate, require_conditional_put
from sia_gen.generate.options import ExecutionOptions
from sia_gen.runs import folder, lock
from sia_gen.runs.claims import Claims

JOIN = ExecutionOptions(executor="local", join=True)


@pytest.fixture
def memory() -> ObjectPath:
    """A prefix of fsspec's store in memory."""
    import fsspec

    fsspec.filesystem("memory").store.clear()
    place = locate("memory://bucket/run")
    assert isinstance(place, ObjectPath)
    return place


@pytest.fixture
def lost_put(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every conditional PUT is applied, answered by nothing, sent again, and then refused."""
    from fsspec.implementations.memory import MemoryFileSystem

    real = MemoryFileSystem.pipe_file

    def twice(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        real(self, path, value, mode=mode, **more)
        if mode == "create":
            real(self, path, value, mode=mode, **more)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", twice)


@pytest.mark.usefixtures("lost_put")
def test_a_put_that_was_applied_without_an_answer_is_ones_own(memory: ObjectPath) -> None:
    assert (memory / "a").create(b"mine")
    assert not (memory / "a").create(b"another")
    require_conditional_put(memory)
    with lock.hold(memory) as token:
        assert lock.read(memory)["token"] == token  # type: ignore[index]
        assert Claims(memory, token).take(support.plan()[0])
        assert not Claims(memory, "another").take(support.plan()[0])
        with pytest.raises(LockedError), lock.hold(memory):
            pass
    assert not (memory / lock.NAME).is_file()


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> Iterator[LossyProxy]:
    """moto's S3 server (a mock, in this process) behind a proxy that loses every fifth answer."""
    s3fs = pytest.importorskip("s3fs", reason="object stores need s3fs")
    moto = pytest.importorskip("moto.server", reason="the S3 server of these tests is moto's")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    forget_buckets(server)
    proxy = LossyProxy(server.get_host_and_port()[1], rate=0.0)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    monkeypatch.setattr(objects, "PAUSE", 0.05)
    proxy.rate = 0.2
    yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.close()
    server.stop()


def test_a_run_in_a_store_that_loses_answers_needs_no_rerun(
    lossy: LossyProxy, mini: Path, finished: Path
) -> None:
    figures = support.run(
        support.options("s3://bucket/run", mini, categories="brick", per_category=16), JOIN
    )
    assert figures["shards_missing"] == 0
    assert lossy.before > 3 and lossy.after > 3
    lossy.rate = 0.0
    place = locate("s3://bucket/run")
    tars = {str(p.relative_to(place)): sha256_bytes(p.read_bytes()) for p in place.rglob("*.tar")}  # type: ignore[arg-type]
    expected = support.tar_hashes(finished)
    assert tars == {
        name: sha for name, sha in expected.items() if "brick-0000" in name and "00002" not in name
    }
    names = {str(p.relative_to(place)).split("/")[0] for p in place.rglob("*")}  # type: ignore[arg-type]
    assert not names & {"claims", "drivers", "lock.json"}


def start_together(place: Any, drivers: int) -> list[BaseException]:
    """Lets drivers begin at one place at once, as `run --join` does, and returns their faults."""
    faults: list[BaseException] = []
    gate = threading.Barrier(drivers)

    def drive(number: int) -> None:
        try:
            gate.wait()
            folder.check_output(str(place))
            with lock.hold(place, join=True):
                if not folder.require_same(place, "sia-gen run", {"a": 1}):
                    begun = folder.document("sia-gen run", {"a": 1}, started=str(number))
                    folder.begin(place, "sia-gen run", {"a": 1}, begun)
                (place / "shards").mkdir(exist_ok=True)
                (place / "shards" / f"{number}.json").parent.mkdir(exist_ok=True)
                from sia_gen.core.store.files import create_bytes

                create_bytes(place / "shards" / f"{number}.json", b"{}")
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(drivers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


def test_drivers_that_start_together_find_one_run(memory: ObjectPath, tmp_path: Path) -> None:
    for number in range(6):
        assert start_together(memory / f"run-{number}", 4) == []
        (tmp_path / str(number)).mkdir()
        assert start_together(tmp_path / str(number), 4) == []


def test_a_look_between_run_json_and_the_first_shard_finds_a_run(
    memory: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other driver begins after we looked for run.json and before we list."""
    real = ObjectPath.iterdir

    def slow(self: ObjectPath) -> Any:
        (memory / "run.json").replace_content(b"{}")
        (memory / "shards/x.tar").replace_content(b"")
        return real(self)

    monkeypatch.setattr(ObjectPath, "iterdir", slow)
    assert folder.check_output(str(memory)) == memory


def _foreign_lock(place: Any, **facts: Any) -> None:
    holder = {"pid": 1, "host": "elsewhere", "token": "theirs", **facts}
    path = place / lock.NAME
    if isinstance(path, ObjectPath):
        path.replace_content(json.dumps(holder).encode())
    else:
        path.write_text(json.dumps(holder))


@pytest.mark.parametrize("ahead", [-7200.0, -200.0, 0.0, 200.0, 7200.0])
def test_a_clock_that_is_wrong_takes_over_no_living_lock(
    memory: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    for place in (memory, tmp_path):
        _foreign_lock(place)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    if ahead:  # fsspec's store in memory has no clock of its own: this is it
        now = Stat(0, real())
        monkeypatch.setattr(ObjectPath, "stat", lambda _self: now)
    for place in (memory, tmp_path):
        assert lock.live_tokens(place) == {"theirs"}
        with pytest.raises(LockedError), lock.hold(place):
            pass


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[]", "5", '{"token": 5}', '{"pid": []}'])
def test_a_lock_with_nonsense_in_it_is_taken_over_in_time(tmp_path: Path, text: str) -> None:
    path = tmp_path / lock.NAME
    path.write_text(text)
    with pytest.raises(LockedError), lock.hold(tmp_path):
        pass
    os.utime(path, (time.time() - 2 * lock.SILENCE,) * 2)
    with lock.hold(tmp_path) as token:
        assert lock.holds(tmp_path, token)
    assert not list(tmp_path.iterdir())


def test_a_stopped_driver_of_this_host_blocks_nobody_for_long(tmp_path: Path) -> None:
    facts = {
        "pid": os.getppid(),
        "process_start": lock._process_start(os.getppid()),
        "host": socket.gethostname(),
        "token": "stopped",
    }
    path = tmp_path / lock.DRIVERS / "stopped.json"
    path.parent.mkdir()
    path.write_text(json.dumps(facts))
    spec = support.plan()[0]
    assert Claims(tmp_path, "stopped").take(spec)
    assert not Claims(tmp_path, "ours").take(spec)
    os.utime(path, (time.time() - 2 * lock.SILENCE,) * 2)
    assert Claims(tmp_path, "ours").take(spec)
    lock.sweep(tmp_path)
    assert not path.exists()


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead = tmp_path / f".tmp-x.tar-{2**22 - 3}-0123abcd"
    living = tmp_path / f".tmp-x.tar-{os.getppid()}-0123abcd"
    for path in (dead, living, tmp_path / ".tmp-probe"):
        path.write_text("")
    folder.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [living]


def test_another_run_that_began_first_is_named(memory: ObjectPath) -> None:
    folder.begin(memory, "sia-gen run", {"a": 1}, folder.document("sia-gen run", {"a": 1}))
    with pytest.raises(UserError, match="other options"):
        folder.begin(memory, "sia-gen run", {"a": 2}, folder.document("sia-gen run", {"a": 2}))
