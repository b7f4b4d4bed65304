"""Several drivers on one folder: shards are shared, nothing is made twice, the dead replaced."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import gen_support as support
import pytest
from gen_support import run

from sia_gen.care.status import read as read_status
from sia_gen.core.errors import LockedError
from sia_gen.generate.executors.local import LocalExecutor
from sia_gen.generate.options import ExecutionOptions
from sia_gen.runs import lock
from sia_gen.runs.claims import FOLDER, Claims

SLOW = "testing:noise?delay=0.12"
JOIN = ExecutionOptions(executor="local", join=True)


def made_by(error: str) -> list[str]:
    """The shards that a driver made itself, by its log."""
    lines = [line for line in error.splitlines() if line.startswith("[")]
    return [line.split()[1].rstrip(":") for line in lines if "by another driver" not in line]


@pytest.mark.parametrize("first_joins", [True, False])
def test_two_drivers_share_a_run_and_make_nothing_twice(
    first_joins: bool, tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    usual = support.run_arguments(out, mini, model=SLOW)
    first = support.start(*usual, *(["--join"] if first_joins else []))
    support.wait_for(lambda: (out / "run.json").is_file())
    second = support.start(*usual, "--join")
    outcomes = [support.finish(process) for process in (first, second)]
    assert [code for code, _, _ in outcomes] == [0, 0], outcomes
    made = [made_by(error) for _, _, error in outcomes]
    assert sorted(made[0] + made[1]) == sorted(spec.name for spec in support.plan())
    assert made[0]
    assert support.stable_files(out) == support.stable_files(finished)
    assert support.all_files(out) - set(support.tar_hashes(out)) >= {"run.json", "index.json"}
    assert not [name for name in support.all_files(out) if "claims" in name or "drivers" in name]


def test_a_run_without_join_is_refused_where_drivers_have_joined(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with lock.hold(out, join=True), pytest.raises(LockedError, match="--join"), lock.hold(out):
        pass
    assert not support.all_files(out)


def test_the_claims_of_a_dead_driver_are_taken_over(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    dead = Claims(out, "dead")
    for spec in support.plan()[:3]:
        assert dead.take(spec)
    run(support.options(out, mini), JOIN)
    assert support.stable_files(out) == support.stable_files(finished)
    assert not (out / FOLDER).exists()


def test_a_shard_in_the_hands_of_a_driver_that_dies_is_made_by_the_other(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    hung = f"testing:noise?fault=hang&at={support.seed_of('brick', 1)}"
    process = support.start(*support.run_arguments(out, mini, model=hung), "--join")
    support.wait_for(lambda: (out / FOLDER / "mini--brick-00000.json").is_file())
    other = support.start(*support.run_arguments(out, mini), "--join")
    support.wait_for(lambda: len(support.tar_hashes(out)) == 8)
    state = read_status(out)
    assert state["state"] == "running"
    assert {driver["pid"] for driver in state["joined_by"]} == {process.pid, other.pid}
    support.kill(process)
    code, _, error = support.finish(other)
    assert code == 0, error
    assert support.stable_files(out) == support.stable_files(finished)
    names = {name for name in support.all_files(out) if not name.startswith("shards/")}
    assert names <= support.RUN_FILES | {"progress.json"}


def test_a_claim_belongs_to_one_living_driver(tmp_path: Path) -> None:
    spec = support.plan()[0]
    with lock.hold(tmp_path) as first, lock.hold(tmp_path, join=True) as second:
        ours, theirs = Claims(tmp_path, first), Claims(tmp_path, second)
        assert ours.take(spec) and ours.take(spec)
        assert not theirs.take(spec)
        ours.release(spec)
        assert theirs.take(spec)
        theirs.close()
        assert ours.take(spec)


def test_a_claim_does_not_bring_a_vanished_folder_back(tmp_path: Path) -> None:
    out = tmp_path / "gone"
    assert Claims(out, "x").take(support.plan()[0])
    assert not out.exists()


def test_a_driver_of_another_host_is_alive_while_its_file_is_touched(tmp_path: Path) -> None:
    facts = {"pid": 1, "host": "elsewhere", "token": "theirs"}
    (tmp_path / lock.DRIVERS).mkdir()
    (tmp_path / lock.DRIVERS / "theirs.json").write_text(json.dumps(facts))
    assert lock.live_tokens(tmp_path) == {"theirs"}
    facts = {"pid": 2**22 - 3, "host": socket.gethostname(), "process_start": 1, "token": "x"}
    (tmp_path / lock.NAME).write_text(json.dumps(facts))
    assert lock.live_tokens(tmp_path) == {"theirs"}


def test_what_another_driver_finished_is_not_made_again(tmp_path: Path) -> None:
    """The shard was missing when this run was planned, and is there when its turn comes."""
    with lock.hold(tmp_path) as token:
        config = replace(support.config(tmp_path), token=token)
        LocalExecutor(config).run(support.plan()[:2], support.Events(), support.NoStop())
        events = support.Events()
        raising = {**config.given, "model": "testing:noise?fault=raise"}
        executor = LocalExecutor(replace(config, given=raising))
        summary = executor.run(support.plan()[:2], events, support.NoStop())
    assert (summary.done, summary.failures) == (0, ())
    assert [event.kind for event in events if event.shard] == ["elsewhere", "elsewhere"]
