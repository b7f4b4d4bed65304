"""What became of a cell as a record: measured scores, or every metric null with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import metrics, records
from harness.measure import detection
from harness.measure.entry import undefined
from harness.peers.plan import protocol
from harness.peers.run import DONE, Outcome
from harness.records import Record
from sia_gen.core.provenance import versions


def empty(outcome: Outcome) -> Record:
    """Returns the record of a cell that has no scores: a row with a name, a reason and a log."""
    cell = outcome.cell
    reason = f"{outcome.state}: {outcome.reason}"
    wanted = [c for c in metrics.columns("image", "pixel").values() if not c.variant.optional]
    stated = protocol(cell)
    kept = {k: v for k, v in stated.items() if k not in {"detector", "source"}}
    log = outcome.folder / "log.txt"
    return {
        "schema": records.SCHEMA,
        "kind": "detection",
        "dataset": cell.category.dataset,
        "category": cell.category.name,
        "category_kind": detection.category_kind(cell.category.dataset, cell.category.name),
        "method": stated["detector"],
        "source": stated["source"],
        "seed": cell.seed,
        "protocol": kept,
        "run": {"state": outcome.state},
        "metrics": {c.name: undefined(c.metric, reason) for c in wanted},
        "counts": {},
        "notes": [],
        "artifacts": {"log": str(log.resolve())} if log.is_file() else {},
        "code": versions("numpy", "scipy"),
        "created": records.now(),
    }


def record(outcome: Outcome, results: Path, tell: Callable[[str], None]) -> Record:
    """Writes a cell's record to a results folder and returns it."""
    if outcome.state == DONE:
        return detection.run([outcome.folder / "scores"], results, tell=tell)[0]
    made = empty(outcome)
    records.write(results, made)
    return made
