"""Runs on an S3 server (moto, a mock): the same shards, one winner of a race, network faults."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gen_support as support
import pytest
from gen_support import run
from moto_server import forget_buckets

from sia_gen.care.repair import repair
from sia_gen.care.status import read as read_status
from sia_gen.care.verify import verify
from sia_gen.core.errors import LockedError, UserError
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.store.objects import ObjectPath, locate, require_conditional_put
from sia_gen.core.store.shards import ShardReader, find_shards
from sia_gen.generate.options import ExecutionOptions

pytest.importorskip("s3fs", reason="object stores need s3fs")
moto = pytest.importorskip("moto.server", reason="the S3 server of these tests is moto's")

LOCAL = ExecutionOptions(executor="local")


class HalfwayProxy:
    """Passes bytes on to a server; the next `failures` large requests are cut off half-way."""

    def __init__(self, port: int) -> None:
        self.target, self.failures, self.cut = port, 0, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream = socket.create_connection(("127.0.0.1", self.target))
        answers = threading.Thread(target=self._pass_on, args=(upstream, client), daemon=True)
        answers.start()
        sent = 0
        try:
            while block := client.recv(4096):
                sent += len(block)
                if self.failures > 0 and sent > 6000:  # a shard is larger, all else is smaller
                    self.failures -= 1
                    self.cut += 1
                    break
                upstream.sendall(block)
        except OSError:
            pass
        for end in (client, upstream):
            end.close()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while block := source.recv(65536):
                target.sendall(block)
        except OSError:
            pass


@pytest.fixture(scope="module")
def proxy() -> Iterator[HalfwayProxy]:
    """An S3 server behind the proxy, and the environment that leads there."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    forget_buckets(server)
    between = HalfwayProxy(server.get_host_and_port()[1])
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{between.port}",
    }.items():
        patch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield between
    s3fs.S3FileSystem.clear_instance_cache()
    patch.undo()
    between.server.close()
    server.stop()


@pytest.fixture
def place(proxy: HalfwayProxy, request: pytest.FixtureRequest) -> ObjectPath:
    """A prefix of its own in the bucket."""
    del proxy
    found = locate(f"s3://bucket/{request.node.name.replace('[', '-').rstrip(']')}")
    assert isinstance(found, ObjectPath)
    return found


def stored(place: ObjectPath) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*")}


def tar_hashes(place: ObjectPath) -> dict[str, str]:
    found = stored(place).items()
    return {name: sha256_bytes(content) for name, content in found if name.endswith(".tar")}


def options(place: ObjectPath, data: Path, **changes: Any) -> Any:
    return support.options(place, data, **changes)


@pytest.fixture(scope="module")
def made(proxy: HalfwayProxy, mini: Path) -> ObjectPath:
    """A finished run in the bucket; tests only read it."""
    del proxy
    found = locate("s3://bucket/made")
    assert isinstance(found, ObjectPath)
    run(options(found, mini), LOCAL)
    return found


def test_a_run_in_a_bucket_equals_one_in_a_folder(made: ObjectPath, finished: Path) -> None:
    assert tar_hashes(made) == support.tar_hashes(finished)
    names = {name for name in stored(made) if not name.startswith("shards/")}
    assert names == support.RUN_FILES
    for name in ("index.json", "wids.json", "sizes.json", "README.md"):
        assert (made / name).read_bytes() == (finished / name).read_bytes()


def test_status_and_verify_read_the_bucket(made: ObjectPath) -> None:
    state = read_status(made)
    assert (state["state"], state["images_done"], state["held_by"]) == ("complete", 60, None)
    report = verify(made)
    assert (report.problems, report.images) == ((), 60)


def test_the_reader_of_shards_keeps_a_copy(
    made: ObjectPath, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIA_GEN_CACHE", str(tmp_path))
    tars = find_shards(made, "mini/grass")
    reader = ShardReader(tars)
    local = ShardReader(find_shards(finished, "mini/grass"))
    assert len(reader) == 20
    assert all((reader.image(i) == local.image(i)).all() for i in range(20))
    assert len(list(tmp_path.rglob("*.tar"))) == 3


def test_damage_in_a_bucket_is_found_and_mended(
    place: ObjectPath, mini: Path, finished: Path
) -> None:
    run(options(place, mini, categories="grass"), LOCAL)
    tar = place / "shards/mini/grass/grass-00001.tar"
    content = bytearray(tar.read_bytes())
    content[3000] ^= 1
    tar.replace_content(bytes(content))
    (problem,) = verify(place).problems
    assert problem.kind == "sha256"
    assert repair(place, LOCAL)["shards_made_now"] == 1
    expected = support.tar_hashes(finished).items()
    assert tar_hashes(place) == {name: sha for name, sha in expected if "grass" in name}
    assert verify(place).problems == ()


def test_a_put_that_fails_half_way_shows_nothing_and_is_tried_again(
    proxy: HalfwayProxy, place: ObjectPath, mini: Path, finished: Path
) -> None:
    run(options(place, mini, categories="brick"), LOCAL)
    (place / "shards/mini/brick/brick-00001.tar").unlink()
    (place / "shards/mini/brick/brick-00001.json").unlink()
    proxy.cut, proxy.failures = 0, 1
    run(options(place, mini, categories="brick"), LOCAL)
    assert proxy.cut == 1
    expected = support.tar_hashes(finished)
    assert tar_hashes(place) == {n: h for n, h in expected.items() if "brick" in n}
    assert verify(place).problems == ()


def test_a_store_that_stays_away_ends_the_run_and_leaves_nothing_half(
    proxy: HalfwayProxy, place: ObjectPath, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setattr("sia_gen.core.store.objects.ATTEMPTS", 1)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    run(options(place, mini, categories="brick"), LOCAL)
    tar = place / "shards/mini/brick/brick-00001.tar"
    tar.unlink()
    tar.with_suffix(".json").unlink()
    proxy.failures = 10_000
    try:
        with pytest.raises(UserError, match="brick-00001"):
            run(options(place, mini, categories="brick"), LOCAL)
    finally:
        proxy.failures = 0
    assert not tar.exists() and not tar.with_suffix(".json").exists()
    run(options(place, mini, categories="brick"), LOCAL)
    assert verify(place).problems == ()


def test_a_store_out_of_reach_is_no_damage(
    made: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise repair would drop whole shards because of a cable."""
    import s3fs

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr("sia_gen.core.store.objects.ATTEMPTS", 1)
    for name in ("info", "cat_file", "find"):
        monkeypatch.setattr(s3fs.S3FileSystem, name, refuse)
    for look in (verify, read_status, lambda run: repair(run, LOCAL)):
        with pytest.raises(UserError, match=r"cannot be re.*no route to host") as caught:
            look(made)
        assert caught.value.exit_code == 2
    monkeypatch.undo()
    assert verify(made).problems == ()


def test_of_many_writers_one_wins(place: ObjectPath) -> None:
    target = place / "x.tar"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: target.create(str(i).encode()), range(8)))
    assert sum(won) == 1
    assert target.read_bytes() == str(won.index(True)).encode()


def test_a_lock_in_a_bucket_refuses_and_a_dead_one_is_taken_over(place: ObjectPath) -> None:
    from sia_gen.runs import lock

    with lock.hold(place), pytest.raises(LockedError, match="pid"), lock.hold(place):
        pass
    dead = {"pid": 2**22 - 3, "process_start": 1, "token": "x", "host": socket.gethostname()}
    (place / lock.NAME).create(json.dumps(dead).encode())
    with lock.hold(place) as token:
        assert lock.holds(place, token)
    assert not (place / lock.NAME).exists()


def test_options_that_changed_are_refused_with_a_diff(made: ObjectPath, mini: Path) -> None:
    with pytest.raises(UserError, match="seed: 0 -> 7"):
        run(options(made, mini, seed=7), LOCAL)


def test_normal_images_may_lie_in_a_bucket(
    place: ObjectPath, mini: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIA_GEN_CACHE", str(tmp_path / "cache"))
    data = place / "mini"
    for path in mini.rglob("*.png"):
        target = data / path.relative_to(mini).as_posix()
        target.replace_content(path.read_bytes())
    out = tmp_path / "run"
    run(support.options(out, data), LOCAL)
    assert support.tar_hashes(out) == support.tar_hashes(finished)
    assert json.loads((out / "run.json").read_text())["data"] == str(data)


def test_a_model_may_lie_in_a_bucket(
    place: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sia_gen.generate import model as source

    monkeypatch.setenv("SIA_GEN_CACHE", str(tmp_path))
    shipped = Path(source.locate("textures-64"))
    for path in shipped.rglob("*.*"):
        if path.is_file() and path.suffix in {".json", ".safetensors"}:
            (place / path.relative_to(shipped).as_posix()).replace_content(path.read_bytes())
    here, there = source.describe(str(shipped)), source.describe(source.locate(str(place)))
    assert there.checkpoint_sha256 == here.checkpoint_sha256
    assert there.classes == here.classes


def test_the_command_line_runs_in_a_bucket(place: ObjectPath, mini: Path) -> None:
    arguments = support.run_arguments(place, mini, per_category=4)
    code, printed, error = support.call(*arguments, "--json")
    assert code == 0, error
    assert json.loads(printed)["images_made_now"] == 12
    code, printed, error = support.call("verify", place, "--json")
    assert code == 0 and json.loads(printed)["ok"] is True, error


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://example.org/run", "refused"),
        ("pipe:cat x", "refused"),
        ("s3://bucket", "expected s3://BUCKET/PREFIX"),
        ("s3://bucket/a/../../b", "without . and .."),
    ],
)
def test_addresses_that_are_no_place_for_a_run(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        locate(address)


def test_a_bucket_that_is_not_there_is_told(proxy: HalfwayProxy, mini: Path) -> None:
    del proxy
    with pytest.raises(UserError, match=r"s3://nowhere/run.*bucket does not exist"):
        run(support.options("s3://nowhere/run", mini), LOCAL)


def test_a_store_that_ignores_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = ObjectPath("memory", locate("memory://careless/run").key)

    def create(self: ObjectPath, content: bytes) -> bool:
        self.replace_content(content)
        return True

    monkeypatch.setattr(ObjectPath, "create", create)
    with pytest.raises(UserError, match="If-None-Match"):
        require_conditional_put(careless)


def test_pairs_lie_in_a_bucket_as_in_a_folder(
    place: ObjectPath, mini: Path, tmp_path: Path
) -> None:
    what = ("synthesize", "--method", "noise", "--data", mini, "--resolution", 16)
    how = ("--per-category", 3, "--shard-size", 2, "--executor", "local", "--json")
    code, _, error = support.call(*what, *how, "--out", tmp_path / "run")
    assert code == 0, error
    code, printed, error = support.call(*what, *how, "--out", place, "--join")
    assert code == 0, error
    assert json.loads(printed)["pairs_made_now"] == 9
    assert tar_hashes(place) == support.tar_hashes(tmp_path / "run")
    assert verify(place).problems == () and read_status(place)["state"] == "complete"
    tar = place / "shards/mini/grass/grass-00000.tar"
    tar.replace_content(tar.read_bytes()[:-512])
    assert repair(place, LOCAL)["shards_made_now"] == 1
    assert tar_hashes(place) == support.tar_hashes(tmp_path / "run")
