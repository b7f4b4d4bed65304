"""The executor on Ray: a pool of actors under our own supervisor.

Ray gives processes, placement and the news of a death; what a shard is, when it is tried again and
when it is given up is decided here, for Ray retries a shard that kills its workers for ever. Actors
are never restarted by Ray: a dead one is dropped and a fresh one made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.executors.attempts import Ledger
from sia_gen.generate.executors.cluster import (
    alive_nodes,
    choose_share,
    connect,
    describe_nodes,
    import_ray,
    require_room,
)
from sia_gen.generate.executors.contract import Stop, Summary
from sia_gen.generate.executors.dashboard import with_metrics
from sia_gen.generate.options import ExecutionOptions
from sia_gen.generate.worker import FATAL, ShardWorker
from sia_gen.runs.events import Event
from sia_gen.runs.spec import Shard

WAIT = 0.5  # seconds between looks at the stop flag
POLL = 1.0  # seconds between questions for progress
TELL = 60.0  # seconds between notes that no node has room
START_FAILURES = 3  # workers lost while loading, one after another, before the run gives up


@dataclass
class _Slot:
    """One actor, and what it is doing."""

    actor: Any
    hired: float
    up: float | None = None  # when its process first answered: until then it may wait for room
    loading: Any = None  # reference of load(), until it is answered
    running: Any = None  # reference of run(), while a shard is in work
    poll: Any = None  # reference of progress()
    spec: Shard | None = None
    images: int = 0
    moved: float = 0.0  # when it last got anywhere
    polled: float = 0.0


class RayExecutor:
    """Runs shards on Ray actors, one model load and one shard in flight each."""

    def __init__(self, config: WorkerConfig, options: ExecutionOptions) -> None:
        self._config = config
        self._options = options

    def run(self, specs: Iterable[Shard], on_event: Callable[[Event], None], stop: Stop) -> Summary:
        """Runs every shard to its end or its quarantine, until `stop` is set."""
        ledger = Ledger(specs, self._config, lost_attempts=self._options.attempts)
        if not len(ledger):
            return ledger.summary()
        ray = import_ray(self._options)
        ours = connect(ray, self._options)
        stop.install()
        try:
            told = with_metrics(on_event, self._config.run)
            supervisor = Supervisor(ray, self._config, self._options, ledger, told, ours=ours)
            return supervisor.run(stop)
        finally:
            ledger.close()
            if ours:
                ray.shutdown()


class Supervisor:
    """Hires actors, hands out shards, and decides what is tried again.

    `ray` and `clock` are given, so that the same code runs against simulated workers and time.
    """

    def __init__(
        self,
        ray: Any,
        config: WorkerConfig,
        options: ExecutionOptions,
        ledger: Ledger,
        on_event: Callable[[Event], None],
        *,
        ours: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.ray, self.options, self.ledger, self.on_event = ray, options, ledger, on_event
        nodes = alive_nodes(ray)
        self.share = choose_share(nodes, options, config.threads)
        fixed = ours and options.address is None
        if not options.wait or fixed:
            require_room(self.share, nodes, options.workers, fixed=fixed)
        device = "cpu" if self.share.gpus == 0 and options.device == "auto" else options.device
        self.config = replace(config, device=device)
        self.worker = ray.remote(ShardWorker)
        self.slots: list[_Slot] = []
        self.started = self.clock()
        self.ever_ready = False
        self.idle_since = self.started  # since when no worker has been ready
        self.told = float("-inf")  # when it was last said that no node has room
        self.start_failures = 0
        self.fatal = ""
        self.counted_nodes = 0.0
        self.fitting = self.share.fitting(nodes)

    def run(self, stop: Stop) -> Summary:
        try:
            while self._unfinished() and not stop.is_set() and not self.fatal:
                for event in self.ledger.look():
                    self.on_event(event)
                self._hire()
                self._assign()
                self._wait()
                self._watch()
            return self.ledger.summary(stopped=stop.is_set(), fatal=self.fatal)
        finally:
            for slot in self.slots:
                self.ray.kill(slot.actor)

    def _unfinished(self) -> int:
        return len(self.ledger) + sum(slot.spec is not None for slot in self.slots)

    def _target(self) -> int:
        now = self.clock()
        if now - self.counted_nodes > 5.0:  # nodes come and go
            self.counted_nodes = now
            self.fitting = self.share.fitting(alive_nodes(self.ray))
        busy = sum(slot.spec is not None for slot in self.slots)
        return min(self.options.workers or max(1, self.fitting), self.ledger.ready + busy)

    def _hire(self) -> None:
        while len(self.slots) < self._target():
            actor = self.worker.options(
                num_cpus=self.share.cpus,
                num_gpus=self.share.gpus,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=2,  # run() in one thread, progress() in another
                scheduling_strategy="SPREAD",
            ).remote(self.config)
            loading = actor.load.remote(self.ledger.first)
            self.slots.append(_Slot(actor=actor, hired=self.clock(), loading=loading))

    def _assign(self) -> None:
        for slot in self.slots:
            if slot.loading is not None or slot.running is not None:
                continue
            taken = self.ledger.take()
            if taken is None:
                return
            slot.spec, attempt = taken
            slot.images, slot.moved = 0, self.clock()
            slot.running = slot.actor.run.remote(slot.spec, attempt)

    def _wait(self) -> None:
        waiting = {slot.loading or slot.running: slot for slot in self.slots}
        waiting.pop(None, None)
        if not waiting:
            time.sleep(WAIT / 2)  # the rest is in the hands of other drivers
            return
        references = list(waiting)
        ready, _ = self.ray.wait(references, num_returns=1, timeout=WAIT)
        if ready:  # whoever else is ready by now is served in the same round
            ready, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            self._answer(waiting[reference], reference)

    def _answer(self, slot: _Slot, reference: Any) -> None:
        errors = self.ray.exceptions
        try:
            answer = self.ray.get(reference)
        except (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError) as error:
            self._lost(slot, f"the worker died: {_first_line(error)}")
            return
        except errors.OutOfMemoryError as error:
            self._lost(slot, f"Ray killed the worker, out of memory: {_first_line(error)}")
            return
        except errors.RayError as error:
            self._lost(slot, f"{type(error).__name__}: {_first_line(error)}")
            return
        if slot.loading is not None:
            self._loaded(slot, answer)
        else:
            self._finished(slot, answer)

    def _loaded(self, slot: _Slot, answer: dict[str, Any]) -> None:
        if answer["status"] == "ready":
            slot.loading = None
            self.ever_ready, self.start_failures = True, 0
            ready = sum(other.loading is None for other in self.slots)
            message = f"{ready} ready, {self.share} each, on {answer['device']}"
            self.on_event(Event(kind="worker", message=message))
        elif answer["kind"] in FATAL:
            self.fatal = answer["error"]
        else:
            self._lost(slot, answer["error"])

    def _finished(self, slot: _Slot, answer: dict[str, Any]) -> None:
        spec, slot.spec, slot.running, slot.poll = slot.spec, None, None, None
        if spec is None:
            raise RuntimeError("an answer without a shard")
        if answer["status"] == "done":
            self.on_event(self.ledger.succeed(spec, answer))
        elif answer["kind"] in FATAL:
            self.fatal = answer["error"]
        else:
            self.on_event(self.ledger.fail(spec, "error", answer["error"], answer["traceback"]))

    def _lost(self, slot: _Slot, reason: str, kind: str = "lost") -> None:
        self.ray.kill(slot.actor)
        self.slots.remove(slot)
        if slot.spec is not None:
            self.on_event(self.ledger.fail(slot.spec, kind, reason))
            return
        self.start_failures += 1
        self.on_event(Event(kind="note", message=f"a worker could not start: {reason}"))
        if self.start_failures >= START_FAILURES:
            self.fatal = f"{START_FAILURES} workers in a row could not start: {reason}"

    def _watch(self) -> None:
        now = self.clock()
        self._watch_room(now)
        for slot in [slot for slot in self.slots if slot.loading is not None]:
            self._watch_load(slot, now)
        for slot in [slot for slot in self.slots if slot.running is not None]:
            self._ask(slot, now)
            if now - slot.moved > self.options.deadline:
                reason = f"no image for {self.options.deadline:g} s (--deadline): worker killed"
                self._lost(slot, reason, kind="hung")
        images = sum(slot.images for slot in self.slots if slot.spec is not None)
        self.on_event(Event(kind="progress", images=images))

    @property
    def _patience(self) -> float:
        """For how many seconds no worker may be ready before the run gives up."""
        return self.options.start_timeout + self.options.wait

    def _watch_room(self, now: float) -> None:
        """Says what is asked and what is there while no worker is ready, and ends the waiting."""
        if not self.slots or any(slot.loading is None for slot in self.slots):
            self.idle_since, self.told = now, float("-inf")
            return
        left = self._patience - (now - self.idle_since)
        if self.fitting < 1 and now - self.told > TELL:
            self.told = now
            asked = f"each asks for {self.share}, there are {describe_nodes(alive_nodes(self.ray))}"
            message = f"no node has room for a worker: {asked}; waiting {max(left, 0):.0f} s"
            self.on_event(Event(kind="note", message=message))
        # After the first worker a replacement that is up has the deadline of its own load.
        loading = self.ever_ready and any(slot.up is not None for slot in self.slots)
        if left < 0 and not loading:
            free = self.ray.available_resources()
            self.fatal = (
                f"no worker was ready after {self._patience:g} s: each asks for"
                f" {self.share}, free are {free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU"
                f" of {describe_nodes(alive_nodes(self.ray))}"
            )

    def _watch_load(self, slot: _Slot, now: float) -> None:
        """Kills a worker that hangs while it loads; one that has no room yet may wait for it."""
        if slot.up is None and self._answered(slot, now) is not None:
            slot.up = now
        if slot.up is not None and now - slot.up > self.options.start_timeout:
            if self.ever_ready:
                self.idle_since = now
            limit = f"{self.options.start_timeout:g} s (--start-timeout)"
            self._lost(slot, f"it did not load within {limit}: killed")

    def _ask(self, slot: _Slot, now: float) -> None:
        answer = self._answered(slot, now)
        if answer is None:
            return
        name, images = answer
        if slot.spec is not None and name == slot.spec.name and images > slot.images:
            slot.images, slot.moved = images, now

    def _answered(self, slot: _Slot, now: float) -> tuple[str, int] | None:
        """Returns a worker's answer to a question for its progress: shard and images, or None."""
        if slot.poll is None:
            if now - slot.polled > POLL:
                slot.poll, slot.polled = slot.actor.progress.remote(), now
            return None
        ready, _ = self.ray.wait([slot.poll], num_returns=1, timeout=0)
        if not ready:
            return None
        poll, slot.poll = slot.poll, None
        try:
            name, images = self.ray.get(poll)
        except self.ray.exceptions.RayError:
            return None  # the reference of its load or shard brings the same news
        return name, images


def _first_line(error: BaseException) -> str:
    """Returns what matters of Ray's long messages, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
