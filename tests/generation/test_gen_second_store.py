"""Runs on a second, independent S3 implementation: localbucket, where it is installed.

moto, which the other tests use, is a mock; what both agree on is the protocol and not one's habit.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gen_support as support
import pytest

from sia_gen.care.repair import repair
from sia_gen.care.verify import verify
from sia_gen.core.errors import LockedError
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store.objects import ObjectPath, locate, require_conditional_put
from sia_gen.generate.options import ExecutionOptions
from sia_gen.runs import lock

pytest.importorskip("s3fs", reason="object stores need s3fs")
if importlib.util.find_spec("localbucket") is None:
    pytest.skip("no second S3 server: pip install localbucket", allow_module_level=True)

LOCAL = ExecutionOptions(executor="local")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectPath]:
    """A prefix in a bucket of a server in a process of its own."""
    import s3fs

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    root = tmp_path_factory.mktemp("buckets")
    (root / "bucket").mkdir()
    server = subprocess.Popen(
        [sys.executable, "-m", "localbucket", str(root), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():
        patch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    support.wait_for(answers, 60)
    found = locate("s3://bucket/run")
    assert isinstance(found, ObjectPath)
    yield found
    s3fs.S3FileSystem.clear_instance_cache()
    patch.undo()
    server.terminate()
    server.wait()


def test_one_of_many_writers_wins(place: ObjectPath) -> None:
    require_conditional_put(place)
    target = place.parent / "raced" / "x"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: target.create(b"%d" % n), range(8)))
    assert sum(won) == 1
    assert target.read_bytes() == b"%d" % won.index(True)


def test_a_run_is_made_verified_damaged_and_mended(
    place: ObjectPath, mini: Path, finished: Path
) -> None:
    support.run(support.options(place, mini), LOCAL)
    expected = support.tar_hashes(finished)

    def tars() -> dict[str, str]:
        every = place.rglob("*.tar")
        return {str(p.relative_to(place)): sha256_bytes(p.read_bytes()) for p in every}

    assert tars() == expected
    assert verify(place).problems == ()
    next(place.rglob("*.tar")).replace_content(b"torn")
    assert len(verify(place).problems) == 1
    assert repair(place, LOCAL)["shards_made_now"] == 1
    assert tars() == expected


def test_the_lock_of_a_bucket_holds(place: ObjectPath) -> None:
    with lock.hold(place), pytest.raises(LockedError), lock.hold(place):
        pass
