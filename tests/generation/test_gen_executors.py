"""One contract, two executors: the same shards, the same failures, whoever runs them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gen_support as support
import pytest

from sia_gen.core.errors import UserError
from sia_gen.core.store.shards import is_done, read_record
from sia_gen.generate.executors.attempts import failure_path
from sia_gen.generate.executors.cluster import Share, choose_share, require_room
from sia_gen.generate.executors.contract import Executor, Summary
from sia_gen.generate.executors.local import LocalExecutor
from sia_gen.generate.executors.ray import RayExecutor
from sia_gen.generate.options import ExecutionOptions
from sia_gen.runs.spec import Shard

KINDS = [pytest.param("local"), pytest.param("ray", marks=pytest.mark.ray)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


def make(kind: str, run: Path, model: str = "testing:noise", **changes: object) -> Executor:
    config = support.config(run, model)
    if kind == "local":
        return LocalExecutor(config)
    return RayExecutor(config, ExecutionOptions(**{"workers": 1, **changes}))  # type: ignore[arg-type]


def execute(
    kind: str, run: Path, model: str = "testing:noise", **changes: object
) -> tuple[Summary, support.Events]:
    events = support.Events()
    executor = make(kind, run, model, **changes)
    return executor.run(support.plan(), events, support.NoStop()), events


def test_every_shard_is_made_with_the_same_bytes(kind: str, tmp_path: Path, finished: Path) -> None:
    summary, events = execute(kind, tmp_path)
    assert (summary.done, summary.images, summary.failures) == (9, 60, ())
    assert support.tar_hashes(tmp_path) == support.tar_hashes(finished)
    assert len(events.of("done")) == 9
    assert events.of("worker")


def test_failures_of_two_datasets_with_a_category_of_one_name_lie_apart(tmp_path: Path) -> None:
    part = {"category": "screw", "shard": 3, "first": 0, "count": 1}
    plain = Shard(dataset="a", **part)  # type: ignore[arg-type]
    assert failure_path(tmp_path, plain).name == "screw-00003.json"
    both = [Shard(dataset=d, prefix=f"{d}-screw", **part) for d in "ab"]  # type: ignore[arg-type]
    assert failure_path(tmp_path, both[0]) != failure_path(tmp_path, both[1])


def test_a_raising_shard_is_tried_twice_and_named_and_the_others_end(
    kind: str, tmp_path: Path, finished: Path
) -> None:
    fault = f"testing:noise?fault=raise&at={support.seed_of('grass', 9)}"
    summary, events = execute(kind, tmp_path, fault)
    assert summary.done == 8
    (failure,) = summary.failures
    assert (failure.shard, failure.attempts) == ("grass-00001", 2)
    assert "a fault on request" in failure.reason
    words = json.loads((tmp_path / "failed" / "grass-00001.json").read_text())
    assert [attempt["kind"] for attempt in words["attempts"]] == ["error", "error"]
    assert "Traceback" in words["attempts"][0]["traceback"]
    assert "fake_model.py" in words["attempts"][0]["traceback"]
    expected = support.tar_hashes(finished)
    del expected["shards/mini/grass/grass-00001.tar"]
    assert support.tar_hashes(tmp_path) == expected
    assert len(events.of("retry")) == len(events.of("failed")) == 1


def test_an_error_that_passes_is_survived_and_counted(tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    fault = f"testing:noise?fault=raise&at={support.seed_of('brick', 0)}&once={tmp_path / 'once'}"
    summary, _ = execute("local", run, fault)
    assert (summary.done, summary.failures) == (9, ())
    record = read_record(run / "shards/mini/brick/brick-00000.tar")
    assert record is not None and record["made"]["attempts"] == 2
    assert support.tar_hashes(run) == support.tar_hashes(finished)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("constant", "constant"),
        ("duplicate", "duplicates"),
        ("nan", "non-finite"),
        ("memory", "--batch-size"),
    ],
)
def test_broken_images_fail_their_shard_with_the_reason(
    fault: str, word: str, tmp_path: Path
) -> None:
    model = f"testing:noise?fault={fault}&at={support.seed_of('gravel', 17)}"
    summary, _ = execute("local", tmp_path, model)
    (failure,) = summary.failures
    assert failure.shard == "gravel-00002"
    assert word in failure.reason
    assert not (tmp_path / "shards/mini/gravel/gravel-00002.tar").exists()


def test_a_model_that_cannot_be_loaded_ends_the_run_with_its_reason(
    kind: str, tmp_path: Path
) -> None:
    summary, _ = execute(kind, tmp_path, "testing:noise?fault=load")
    assert "cannot be loaded" in summary.fatal
    assert summary.done == 0


def test_another_checkpoint_than_planned_ends_the_run(tmp_path: Path) -> None:
    config = support.config(tmp_path)
    changed = LocalExecutor(
        replace(config, given={**config.given, "model": "testing:noise?weights=1"}),
    )
    summary = changed.run(support.plan(), support.Events(), support.NoStop())
    assert "changed since" in summary.fatal


def test_a_shard_made_before_its_worker_was_lost_is_not_made_again(tmp_path: Path) -> None:
    execute("local", tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    summary, _ = execute("local", tmp_path, "testing:noise?fault=raise")
    assert summary.done == 9
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}


def test_stop_ends_between_batches_and_drops_the_shard_whole(tmp_path: Path) -> None:
    class StopAfter(support.NoStop):
        left = 4

        def is_set(self) -> bool:
            self.left -= 1
            return self.left < 0

    executor = make("local", tmp_path)
    summary = executor.run(support.plan(), support.Events(), StopAfter())
    assert summary.stopped
    assert summary.done == len(support.tar_hashes(tmp_path)) == 1


def test_reversed_order_gives_the_same_bytes(tmp_path: Path, finished: Path) -> None:
    executor = make("local", tmp_path)
    executor.run(reversed(support.plan()), support.Events(), support.NoStop())
    assert support.tar_hashes(tmp_path) == support.tar_hashes(finished)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_give_the_same_bytes(tmp_path: Path, finished: Path) -> None:
    summary, events = execute("ray", tmp_path, "testing:noise?delay=0.1", workers=2)
    assert summary.done == 9
    assert len(events.of("worker")) == 2
    assert support.tar_hashes(tmp_path) == support.tar_hashes(finished)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_is_replaced_and_its_shard_made(tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    fault = f"testing:noise?fault=kill&at={support.seed_of('grass', 3)}&once={tmp_path / 'once'}"
    summary, events = execute("ray", run, fault)
    assert (summary.done, summary.failures) == (9, ())
    record = read_record(run / "shards/mini/grass/grass-00000.tar")
    assert record is not None and record["made"]["attempts"] == 2
    assert support.tar_hashes(run) == support.tar_hashes(finished)
    (retry,) = events.of("retry")
    assert "died" in retry.message


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_shard_that_kills_every_worker_goes_into_quarantine(tmp_path: Path) -> None:
    fault = f"testing:noise?fault=kill&at={support.seed_of('grass', 3)}"
    summary, _ = execute("ray", tmp_path, fault, attempts=2)
    assert summary.done == 8
    (failure,) = summary.failures
    assert (failure.shard, failure.attempts) == ("grass-00000", 2)
    words = json.loads((tmp_path / "failed" / "grass-00000.json").read_text())
    assert [attempt["kind"] for attempt in words["attempts"]] == ["lost", "lost"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_hung_worker_is_killed_after_the_deadline(tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    fault = f"testing:noise?fault=hang&at={support.seed_of('brick', 5)}&once={tmp_path / 'once'}"
    summary, events = execute("ray", run, fault, deadline=3.0)
    assert (summary.done, summary.failures) == (9, ())
    (retry,) = events.of("retry")
    assert "--deadline" in retry.message
    assert support.tar_hashes(run) == support.tar_hashes(finished)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_workers_that_die_while_loading_end_the_run(tmp_path: Path) -> None:
    summary, _ = execute("ray", tmp_path, "testing:noise?fault=kill-load")
    assert "could not start" in summary.fatal
    assert not summary.failures


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_gpu_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 GPU.*available are 2 CPU and 0 GPU"):
        execute("ray", tmp_path, num_gpus=1.0)


def test_what_fits_is_counted_node_by_node() -> None:
    nodes = [{"CPU": 3.0, "GPU": 1.0}, {"CPU": 3.0}, {"CPU": 1.0, "GPU": 4.0}]
    assert Share(cpus=2.0, gpus=0.0).fitting(nodes) == 2
    assert Share(cpus=1.0, gpus=1.0).fitting(nodes) == 2
    assert Share(cpus=0.1, gpus=0.5).fitting(nodes) == 10
    assert choose_share(nodes, ExecutionOptions(), 1) == Share(cpus=1.0, gpus=1.0)
    assert choose_share([{"CPU": 8.0}], ExecutionOptions(), 2) == Share(cpus=2.0, gpus=0.0)
    half = ExecutionOptions(num_cpus=0.5, num_gpus=0.5)
    assert choose_share(nodes, half, 2) == Share(cpus=0.5, gpus=0.5)


def test_a_fixed_machine_refuses_what_a_growing_cluster_takes() -> None:
    share, nodes = Share(cpus=1.0, gpus=0.0), [{"CPU": 2.0}]
    require_room(share, nodes, 2, fixed=True)
    require_room(share, nodes, 3, fixed=False)
    with pytest.raises(UserError, match="asked for 3 workers"):
        require_room(share, nodes, 3, fixed=True)


def test_an_orphan_does_not_write(tmp_path: Path) -> None:
    """A worker that outlived its driver finds another token in the lock and drops its shard."""
    config = support.config(tmp_path)
    (tmp_path / "lock.json").write_text('{"pid": 1, "host": "elsewhere", "token": "theirs"}')
    orphan = LocalExecutor(type(config)(**{**vars(config), "token": "ours"}))
    summary = orphan.run(support.plan(), support.Events(), support.NoStop())
    assert "taken over" in summary.fatal
    assert not list(tmp_path.rglob("*.tar"))


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "spec_ha'])
def test_a_torn_record_is_no_record(content: bytes, tmp_path: Path, finished: Path) -> None:
    execute("local", tmp_path)
    spec = support.plan()[4]
    record = (tmp_path / spec.file).with_suffix(".json")
    record.write_bytes(content)
    assert not is_done(tmp_path / spec.file, spec.spec_hash)
    execute("local", tmp_path)
    assert is_done(tmp_path / spec.file, spec.spec_hash, checksum=True)
    assert support.tar_hashes(tmp_path) == support.tar_hashes(finished)


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_a_ray_that_does_not_come_up_is_told_with_advice(address: str | None) -> None:
    """Ray raises a bare Exception where a node's processes do not start in time."""
    from types import SimpleNamespace

    from sia_gen.core.errors import UserError
    from sia_gen.generate.executors.cluster import connect

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    with pytest.raises(UserError, match=r"timed out during startup\.\. Try --executor local") as at:
        connect(ray, ExecutionOptions(address=address))
    assert at.value.exit_code == 2
