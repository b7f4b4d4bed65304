"""The executor in this process: one worker, one shard after another.

Code of the same process can be neither killed nor timed out: a shard that kills its worker ends the
run here (start it again), and one that hangs hangs. Ray's executor survives both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.executors.attempts import Ledger
from sia_gen.generate.executors.contract import Stop, Summary
from sia_gen.generate.job import StoppedShardError
from sia_gen.generate.worker import FATAL, ShardWorker
from sia_gen.runs.events import Event
from sia_gen.runs.spec import Shard

WAIT = 0.2  # seconds between looks at the stop flag while others finish their shards


class LocalExecutor:
    """Runs shards one after another in this process."""

    def __init__(self, config: WorkerConfig, *, attempts: int = 3) -> None:
        self._config = config
        self._attempts = attempts

    def run(self, specs: Iterable[Shard], on_event: Callable[[Event], None], stop: Stop) -> Summary:
        """Runs every shard to its end or its quarantine, until `stop` is set."""
        stop.install()
        ledger = Ledger(specs, self._config, lost_attempts=self._attempts)
        try:
            return self._run(ledger, on_event, stop)
        finally:
            ledger.close()

    def _run(self, ledger: Ledger, on_event: Callable[[Event], None], stop: Stop) -> Summary:
        if ledger.first is None:
            return ledger.summary()
        worker = ShardWorker(self._config)
        answer = worker.load(ledger.first)
        if answer["status"] != "ready":
            return ledger.summary(fatal=answer["error"])
        on_event(Event(kind="worker", message=f"in this process on {answer['device']}"))

        def on_images(images: int) -> None:
            if stop.is_set():
                raise StoppedShardError("the run is stopping")
            on_event(Event(kind="progress", images=images))

        while len(ledger) and not stop.is_set():
            for event in ledger.look():
                on_event(event)
            taken = ledger.take()
            if taken is None:  # the rest is in the hands of other drivers
                time.sleep(WAIT)
                continue
            spec, attempt = taken
            answer = worker.run(spec, attempt, on_images)
            if answer["status"] == "done":
                on_event(ledger.succeed(spec, answer))
            elif answer["kind"] in FATAL:
                return ledger.summary(fatal=answer["error"])
            elif answer["kind"] != "stopped":
                on_event(ledger.fail(spec, "error", answer["error"], answer["traceback"]))
        return ledger.summary(stopped=stop.is_set())
