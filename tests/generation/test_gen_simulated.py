"""The supervisor over simulated workers: nobody idles, failures are survived, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import gen_support as support
import pytest
from simulated_ray import Scenario, SimulatedRay

from sia_gen.generate.executors.attempts import Ledger
from sia_gen.generate.executors.contract import Summary
from sia_gen.generate.executors.ray import Supervisor
from sia_gen.generate.options import ExecutionOptions


def simulate(
    run: Path, scenario: Scenario, shards: int = 120, **options: object
) -> tuple[Summary, SimulatedRay, support.Events]:
    planned = support.plan(categories=("brick",), per_category=shards * 8)
    ray, events = SimulatedRay(scenario), support.Events()
    ledger = Ledger(planned, support.config(run), lost_attempts=3)
    supervisor = Supervisor(
        ray,
        support.config(run),
        ExecutionOptions(**options),  # type: ignore[arg-type]
        ledger,
        events,
        ours=False,
        clock=ray.clock,
    )
    return supervisor.run(support.NoStop()), ray, events


def test_every_gpu_gets_a_worker_and_stays_busy(tmp_path: Path) -> None:
    scenario = Scenario(gpus=16, spread=0.0)
    summary, ray, _ = simulate(tmp_path, scenario, shards=128)
    assert (summary.done, summary.failures) == (128, ())
    assert len(ray.workers) == 16
    assert ray.idle_share() < 0.02
    working = (ray.clock() - scenario.load_seconds) * 16
    assert 1 - sum(worker.busy for worker in ray.workers) / working < 0.02


def test_lost_workers_are_replaced_and_their_shards_made(tmp_path: Path) -> None:
    summary, ray, events = simulate(tmp_path, Scenario(gpus=8, lost=0.1, seed=3))
    lost = len(events.of("retry"))
    assert summary.done + len(summary.failures) == 120
    assert lost > 3 and len(ray.workers) == 8 + lost + len(summary.failures)


def test_raising_shards_are_tried_twice(tmp_path: Path) -> None:
    summary, _, events = simulate(tmp_path, Scenario(gpus=8, raising=0.3, seed=1))
    assert summary.done + len(summary.failures) == 120
    assert {failure.attempts for failure in summary.failures} == {2}
    assert len(events.of("failed")) == len(summary.failures) > 0


def test_a_hung_worker_is_killed_at_its_deadline(tmp_path: Path) -> None:
    scenario = Scenario(gpus=2, shard_seconds=100.0, spread=0.0)
    summary, _, events = simulate(tmp_path, scenario, shards=3, deadline=50.0)
    assert (summary.done, len(summary.failures)) == (0, 3)
    assert all("--deadline" in event.message for event in events.of("failed"))


def test_a_cluster_that_is_still_empty_is_waited_for_on_request(tmp_path: Path) -> None:
    from sia_gen.core.errors import UserError

    empty = Scenario(gpus=0, load_seconds=30.0)
    with pytest.raises(UserError, match="none fits"):
        simulate(tmp_path, empty, num_gpus=1.0)
    patient = {"num_gpus": 1.0, "wait": 60.0, "address": "auto", "workers": 4}
    summary, ray, _ = simulate(tmp_path, empty, **patient)
    assert summary.done == 120
    assert len(ray.workers) == 4


def test_a_replacement_that_hangs_while_it_loads_is_killed(tmp_path: Path) -> None:
    scenario = Scenario(gpus=1, lost=0.1, seed=3, hanging=frozenset({1, 3}))
    summary, ray, events = simulate(tmp_path, scenario, shards=30, start_timeout=100.0)
    assert summary.done + len(summary.failures) == 30 and not summary.fatal
    said = [event.message for event in events.of("note")]
    assert sum("did not load within 100 s (--start-timeout)" in text for text in said) == 2
    assert len(ray.workers) > 4


def test_replacements_that_all_hang_end_the_run(tmp_path: Path) -> None:
    scenario = Scenario(gpus=1, lost=1.0, hanging=frozenset(range(1, 9)))
    summary, ray, _ = simulate(tmp_path, scenario, shards=3, start_timeout=100.0)
    assert "3 workers in a row could not start: it did not load within 100 s" in summary.fatal
    assert len(ray.workers) == 4


def test_the_first_loads_that_hang_end_the_run_in_time(tmp_path: Path) -> None:
    scenario = Scenario(gpus=1, hanging=frozenset(range(9)))
    summary, ray, _ = simulate(tmp_path, scenario, shards=3, start_timeout=100.0)
    assert summary.fatal and ray.clock() < 310


def test_a_run_whose_only_node_died_says_what_is_asked_and_there(tmp_path: Path) -> None:
    scenario = Scenario(gpus=1, lost=1.0, last=0)
    patient = {"start_timeout": 100.0, "wait": 200.0, "address": "auto"}
    summary, ray, events = simulate(tmp_path, scenario, shards=3, **patient)
    said = [event.message for event in events.of("note")]
    assert "each asks for 1 CPU and 1 GPU, there are no node; waiting 29" in said[0]
    assert 4 <= len(said) <= 6  # at once and each minute
    assert "no worker was ready after 300 s" in summary.fatal and "of no node" in summary.fatal
    assert 300 < ray.clock() < 420
