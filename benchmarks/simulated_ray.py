"""Simulated workers and time, for the supervisor of the Ray executor: what would 64 GPUs do?

`SimulatedRay` offers the part of Ray that the supervisor uses. Shards take simulated seconds and
write no file; the time that the supervisor itself needs is real and is added to the simulated
clock, so that a slow driver shows as idle workers.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.recipe import ImageShard


class RayActorError(Exception):
    """A simulated worker was lost."""


class OtherRayError(Exception):
    """Stands for the errors that are not simulated."""


class Errors:
    """The exceptions that the supervisor asks for by name."""

    RayError = OtherRayError
    RayActorError = RayActorError
    WorkerCrashedError = NodeDiedError = OutOfMemoryError = OtherRayError


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated; durations in seconds, failures as shares of shards."""

    gpus: int = 64
    shard_seconds: float = 60.0
    spread: float = 0.1  # of a shard's duration, as a share
    load_seconds: float = 20.0
    lost: float = 0.0  # workers killed half-way
    raising: float = 0.0  # shards that answer with an error
    seed: int = 0
    hanging: frozenset[int] = frozenset()  # workers that never end loading
    last: int = 10**9  # the last worker that has room: the nodes go with it


@dataclass
class Worker:
    """A simulated actor and the seconds it was busy."""

    number: int
    busy: float = 0.0
    ready_at: float = 0.0
    gone_at: float = math.inf
    shifts: list[tuple[float, float]] = field(default_factory=list)  # from, to: at a shard


@dataclass(order=True)
class Answer:
    """Something that becomes known at a simulated moment."""

    at: float
    number: int
    value: Any = field(compare=False)
    worker: Worker = field(compare=False)

    def __hash__(self) -> int:
        return self.number


class SimulatedRay:
    """Ray's interface over a heap of future answers."""

    exceptions = Errors

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.workers: list[Worker] = []
        self.peak_pending = 0
        self._random = random.Random(scenario.seed)
        self._numbers = itertools.count()
        self._last_first_attempt = 0.0
        self._now = 0.0  # simulated seconds, apart from the driver's own
        self._real = time.perf_counter()
        self._driver = 0.0  # real seconds spent outside this class

    def clock(self) -> float:
        """Returns the simulated time: waiting for workers, and the driver's real work."""
        return self._now + self._driver + (time.perf_counter() - self._real)

    @property
    def driver_seconds(self) -> float:
        """Real seconds that the supervisor has needed."""
        return self._driver

    def idle_share(self) -> float:
        """Returns the share of ready workers' time without a shard, until the queue was empty.

        Afterwards workers are idle because nothing is left to do but what others retry.
        """
        last = self._last_first_attempt
        there = busy = 0.0
        for worker in self.workers:
            there += max(0.0, min(worker.gone_at, last) - worker.ready_at)
            busy += sum(max(0.0, min(end, last) - start) for start, end in worker.shifts)
        return 1.0 - busy / there if there else 0.0

    def note_first_attempt(self, start: float) -> None:
        """Remembers when a shard was begun for the first time."""
        self._last_first_attempt = max(self._last_first_attempt, start)

    def _enter(self) -> None:
        self._driver += time.perf_counter() - self._real

    def _leave(self) -> None:
        self._real = time.perf_counter()

    def nodes(self) -> list[dict[str, Any]]:
        """Returns nodes of eight GPUs each."""
        gone = len(self.workers) > self.scenario.last + 1
        full, rest = divmod(0 if gone else self.scenario.gpus, 8)
        sizes = [8] * full + ([rest] if rest else [])
        return [
            {"Alive": True, "Resources": {"CPU": 8.0 * size, "GPU": float(size)}} for size in sizes
        ]

    def remote(self, _class: type) -> SimulatedRay:
        """Returns what makes actors."""
        return self

    def options(self, **_options: Any) -> Any:
        """Returns an object whose remote(config) makes an actor."""
        return _Factory(self)

    def hire(self, _config: WorkerConfig) -> _Actor:
        """Returns a new actor."""
        worker = Worker(number=len(self.workers))
        self.workers.append(worker)
        return _Actor(self, worker)

    def promise(self, worker: Worker, seconds: float, value: Any) -> Answer:
        """Returns a reference that is answered so many simulated seconds from now."""
        self._enter()
        answer = Answer(
            at=self._now + self._driver + seconds,
            number=next(self._numbers),
            value=value,
            worker=worker,
        )
        self._leave()
        return answer

    def duration(self) -> float:
        """Returns how long the next shard takes."""
        scenario = self.scenario
        low, high = 1.0 - scenario.spread, 1.0 + scenario.spread
        return scenario.shard_seconds * self._random.uniform(low, high)

    def draw(self) -> float:
        """Returns a number from 0 to 1, for failures."""
        return self._random.random()

    def wait(
        self, references: list[Answer], *, num_returns: int, timeout: float
    ) -> tuple[list[Answer], list[Answer]]:
        """Returns what is answered; moves the clock on to the first answer or the timeout."""
        self._enter()
        self.peak_pending = max(self.peak_pending, len(references))
        now = self._now + self._driver
        first = min(reference.at for reference in references)
        if first > now and timeout > 0:
            self._now += min(first - now, timeout)
            now = self._now + self._driver
        ready = [reference for reference in references if reference.at <= now]
        ready = heapq.nsmallest(num_returns, ready)
        self._leave()
        return ready, [reference for reference in references if reference not in ready]

    def get(self, reference: Answer) -> Any:
        """Returns an answer, or raises what became of its worker."""
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def kill(self, actor: _Actor) -> None:
        """Ends an actor."""
        actor.worker.gone_at = self.clock()

    def available_resources(self) -> dict[str, float]:
        """Returns nothing: nothing is free while workers load."""
        return {}


class _Factory:
    def __init__(self, ray: SimulatedRay) -> None:
        self._ray = ray

    def remote(self, config: WorkerConfig) -> _Actor:
        return self._ray.hire(config)


class _Method:
    def __init__(self, call: Callable[..., Answer]) -> None:
        self.remote = call


class _Actor:
    def __init__(self, ray: SimulatedRay, worker: Worker) -> None:
        self.ray, self.worker = ray, worker
        self.load = _Method(self._load)
        self.run = _Method(self._run)
        self.progress = _Method(self._progress)

    def _load(self, _spec: ImageShard) -> Answer:
        seconds = self.ray.scenario.load_seconds
        if self.worker.number in self.ray.scenario.hanging or self._without_room:
            return self.ray.promise(self.worker, math.inf, None)
        self.worker.ready_at = self.ray.clock() + seconds
        answer = {"status": "ready", "seconds": seconds, "device": "simulated"}
        return self.ray.promise(self.worker, seconds, answer)

    def _run(self, spec: ImageShard, attempt: int) -> Answer:
        scenario, seconds, fate = self.ray.scenario, self.ray.duration(), self.ray.draw()
        value: Any = {"status": "done", "images": spec.count, "seconds": seconds}
        if fate < scenario.lost:
            seconds, value = seconds / 2, RayActorError("a worker lost on request")
        elif fate < scenario.lost + scenario.raising:
            value = {
                "status": "failed",
                "kind": "error",
                "error": "an error on request",
                "traceback": "",
            }
        self.worker.busy += seconds
        answer = self.ray.promise(self.worker, seconds, value)
        self.worker.shifts.append((answer.at - seconds, answer.at))
        if attempt == 1:
            self.ray.note_first_attempt(answer.at - seconds)
        return answer

    def _progress(self) -> Answer:
        seconds = math.inf if self._without_room else 0.0
        return self.ray.promise(self.worker, seconds, ("", 0))

    @property
    def _without_room(self) -> bool:
        return self.worker.number > self.ray.scenario.last
