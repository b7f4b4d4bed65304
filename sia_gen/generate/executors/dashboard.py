"""A run's progress as Ray's own metrics: charts on its dashboard, figures at its Prometheus port.

Ray hands them to the agent of each node, which `ray[default]` brings (extra `cluster`); without an
agent they are dropped. Nothing of a run depends on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sia_gen.runs.events import Event

COUNTERS = {
    "images": "Synthetic images in finished shards, since this driver began",
    "shards": "Finished shards, since this driver began",
    "retries": "Attempts that were lost and are made again",
    "failed_shards": "Shards that were given up",
}
IN_WORK = "Synthetic images made of shards that are not finished"


def with_metrics(on_event: Callable[[Event], None], run: str) -> Callable[[Event], None]:
    """Returns `on_event`, which also keeps Ray's metrics sia_gen_images and so on, by run."""
    from ray.util.metrics import Counter, Gauge

    def tagged(kind: type[Any], name: str, description: str) -> Any:
        metric = kind(f"sia_gen_{name}", description=description, tag_keys=("run",))
        metric.set_default_tags({"run": run})
        return metric

    counters = {name: tagged(Counter, name, text) for name, text in COUNTERS.items()}
    in_work = tagged(Gauge, "images_in_work", IN_WORK)

    def count(event: Event) -> None:
        on_event(event)
        if event.kind == "done":
            counters["shards"].inc(1)
            if event.images:  # Ray refuses to add nothing
                counters["images"].inc(event.images)
        elif event.kind == "retry":
            counters["retries"].inc(1)
        elif event.kind == "failed":
            counters["failed_shards"].inc(1)
        elif event.kind == "progress":
            in_work.set(event.images)

    return count
