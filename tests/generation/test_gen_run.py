"""A run from options to index files: what it writes, what it refuses, and how it resumes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gen_support as support
import pytest
from gen_support import run

from sia_gen.care.status import read as read_status
from sia_gen.core.errors import IncompleteError, LockedError, UserError
from sia_gen.core.store.shards import ShardReader, find_shards, read_record
from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.contents.images import prepare
from sia_gen.generate.estimate import describe_plan
from sia_gen.generate.executors.contract import Executor
from sia_gen.generate.options import ExecutionOptions
from sia_gen.generate.run import make_executor

LOCAL = ExecutionOptions(executor="local")


def forbidden(_config: WorkerConfig, _execution: ExecutionOptions) -> Executor:
    raise AssertionError("no executor may start here")


def test_a_run_writes_shards_that_the_core_reads(finished: Path) -> None:
    assert len(find_shards(finished)) == 9
    tars = find_shards(finished, "mini/grass")
    reader = ShardReader(tars)
    assert len(reader) == 20
    for position in range(20):
        metadata = reader.metadata(position)
        assert set(metadata) == {
            "dataset",
            "category",
            "index",
            "seed",
            "strength",
            "checkpoint_sha256",
            "sampler",
            "steps",
            "encoding",
            "pixels_sha256",
        }
        assert metadata["index"] == position
        assert metadata["seed"] == support.seed_of("grass", position)
        assert isinstance(metadata["strength"], float)
        assert reader.image(position).shape == (16, 16, 3)


def test_a_record_says_where_its_images_come_from(finished: Path) -> None:
    record = read_record(finished / "shards/mini/brick/brick-00002.tar")
    assert record is not None
    assert record["category"] == "mini/brick"
    assert record["images"] == len(record["samples"]) == 4
    assert record["made"]["model"] == "testing:noise"
    assert record["made"]["attempts"] == 1
    assert {"torch", "diffusers", "sia-gen", "python"} <= set(record["made"]["versions"])
    assert record["model"]["health_passed"] is True
    assert record["health"]["constant"] == record["health"]["duplicates"] == 0


def test_index_files_agree_with_the_shards(finished: Path) -> None:
    index = json.loads((finished / "index.json").read_text())
    wids = json.loads((finished / "wids.json").read_text())
    sizes = json.loads((finished / "sizes.json").read_text())
    hashes = support.tar_hashes(finished)
    assert index["complete"] is True and index["images"] == 60
    assert {entry["file"]: entry["sha256"] for entry in index["shards"]} == hashes
    assert sum(sizes.values()) == 60 and set(sizes) == set(hashes)
    assert wids["__kind__"] == "wids-shard-index-v1"
    import hashlib

    for shard in wids["shardlist"]:
        content = (finished / shard["url"]).read_bytes()
        assert shard["md5sum"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert shard["filesize"] == len(content)


def test_nothing_is_left_behind(finished: Path) -> None:
    names = {name for name in support.all_files(finished) if not name.startswith("shards/")}
    assert names == support.RUN_FILES


def test_running_again_starts_no_executor(tmp_path: Path, mini: Path, finished: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    figures = run(support.options(out, mini), LOCAL, executor=forbidden)
    assert figures["shards_made_now"] == 0
    assert support.stable_files(out) == support.stable_files(finished)


def test_only_what_is_missing_is_made(tmp_path: Path, mini: Path, finished: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "shards/mini/brick/brick-00001.tar").unlink()
    (out / "shards/mini/grass/grass-00002.json").unlink()
    figures = run(support.options(out, mini), LOCAL)
    assert figures["shards_made_now"] == 2
    assert support.stable_files(out) == support.stable_files(finished)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"per_category": 21}, ["per_category: 20 -> 21"]),
        ({"seed": 3, "s_high": 0.3}, ["seed: 0 -> 3", "s_high: 0.2 -> 0.3"]),
        ({"model": "testing:noise?weights=1"}, ["checkpoint_sha256"]),
        ({"categories": "brick"}, ["categories"]),
        ({"batch_size": 8}, ["batch_size: 4 -> 8"]),
    ],
)
def test_changed_options_are_refused_with_a_diff(
    change: dict[str, object], words: list[str], tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before = {name: (out / name).stat().st_mtime_ns for name in support.all_files(out)}
    with pytest.raises(UserError) as caught:
        run(support.options(out, mini, **change), LOCAL, executor=forbidden)
    for word in words:
        assert word in str(caught.value)
    assert before == {name: (out / name).stat().st_mtime_ns for name in support.all_files(out)}


def test_a_failed_shard_ends_in_exit_code_3_and_running_again_mends_it(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    fault = f"testing:noise?fault=raise&at={support.seed_of('grass', 9)}"
    with pytest.raises(IncompleteError, match="grass-00001") as caught:
        run(support.options(out, mini, model=fault), LOCAL)
    assert caught.value.exit_code == 3
    assert json.loads((out / "index.json").read_text())["complete"] is False
    state = read_status(out)
    assert (state["state"], state["failed"], state["shards_done"]) == ("failed", ["grass-00001"], 8)
    run(support.options(out, mini), LOCAL)
    assert not list((out / "failed").iterdir())
    assert support.stable_files(out) == support.stable_files(finished)


@pytest.mark.parametrize("check", ["failed", "missing"])
def test_an_unhealthy_model_is_refused_unless_forced_and_the_record_says_so(
    check: str, tmp_path: Path, mini: Path
) -> None:
    out = tmp_path / "run"
    model = f"testing:noise?health_check={check}"
    with pytest.raises(UserError, match=r"health check|never checked"):
        run(support.options(out, mini, model=model), LOCAL)
    assert not out.exists()
    run(support.options(out, mini, model=model, force=True), LOCAL)
    record = read_record(out / "shards/mini/brick/brick-00000.tar")
    assert record is not None and record["model"]["health_passed"] is False
    assert json.loads((out / "run.json").read_text())["model"]["forced"] is True


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5000, 5000))
    with pytest.raises(UserError, match=r"need at least 11.2 KiB, but only 4.9 KiB are free"):
        run(support.options(tmp_path / "run", mini), LOCAL)
    assert not (tmp_path / "run").exists()


def test_the_plan_counts_and_writes_nothing(tmp_path: Path, mini: Path) -> None:
    figures = describe_plan(prepare(support.options(tmp_path / "run", mini)), rate=10.0)
    assert (figures["images"], figures["images_to_do"]) == (60, 60)
    assert (figures["shards"], figures["shards_to_do"]) == (9, 9)
    assert figures["seconds_estimated"] == 6.0
    assert figures["resumes"] is False
    assert not list(tmp_path.iterdir())


def test_the_plan_of_a_run_half_done_counts_the_rest(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "shards/mini/gravel/gravel-00002.json").unlink()
    figures = describe_plan(prepare(support.options(out, mini)))
    assert (figures["images_to_do"], figures["shards_to_do"], figures["resumes"]) == (4, 1, True)


def test_progress_is_told_to_prometheus_by_a_file_and_a_port(tmp_path: Path, mini: Path) -> None:
    from urllib.request import urlopen

    file, port = tmp_path / "sia.prom", support.free_port()
    execution = replace(LOCAL, metrics_file=str(file), metrics_port=port)
    seen = []

    def look(config: WorkerConfig, asked: ExecutionOptions) -> Executor:
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            seen.append(answer.read().decode())
        return make_executor(config, asked)

    out = tmp_path / "run"
    run(support.options(out, mini), execution, executor=look)
    assert "# TYPE sia_gen_run_images_done gauge" in seen[0]
    told = dict(line.rsplit(" ", 1) for line in file.read_text().splitlines() if line[0] != "#")
    assert float(told[f'sia_gen_run_images_done{{run="{out}"}}']) == 60
    assert float(told[f'sia_gen_run_shards{{run="{out}"}}']) == 9
    nowhere = replace(LOCAL, metrics_file=str(tmp_path / "none" / "sia.prom"))
    with pytest.raises(UserError, match=r"--metrics-file .*none/sia.prom cannot be written"):
        run(support.options(tmp_path / "other", mini), nowhere)


def test_a_live_lock_refuses_and_a_dead_one_is_taken_over(tmp_path: Path, mini: Path) -> None:
    from sia_gen.runs import lock

    out = tmp_path / "run"
    out.mkdir()
    options = support.options(out, mini)
    with lock.hold(out), pytest.raises(LockedError, match=r"pid \d+ on host"):
        run(options, LOCAL, executor=forbidden)
    assert support.all_files(out) == set()
    dead = {"pid": 2**22 - 3, "process_start": 1, "token": "dead"}
    import socket

    (out / lock.NAME).write_text(json.dumps({**dead, "host": socket.gethostname()}))
    run(options, LOCAL)
    assert not (out / lock.NAME).exists()


def test_a_lock_of_another_host_holds_until_it_falls_silent(tmp_path: Path) -> None:
    import os
    import time

    from sia_gen.runs import lock

    path = tmp_path / lock.NAME
    path.write_text(json.dumps({"pid": 1, "host": "another-host", "token": "theirs"}))
    with pytest.raises(LockedError, match="another-host"), lock.hold(tmp_path):
        pass
    old = time.time() - lock.SILENCE - 1
    os.utime(path, (old, old))
    with lock.hold(tmp_path) as token:
        assert lock.holds(tmp_path, token)
        assert not lock.holds(tmp_path, "theirs")
    assert not path.exists()


def test_a_reused_pid_does_not_hold_a_lock(tmp_path: Path) -> None:
    import os
    import socket

    from sia_gen.runs import lock

    holder = {"pid": os.getpid(), "process_start": 1, "host": socket.gethostname(), "token": "x"}
    (tmp_path / lock.NAME).write_text(json.dumps(holder))
    with lock.hold(tmp_path):
        pass
