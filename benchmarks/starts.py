"""Two `sia-gen run --join` that begin at the same moment on an empty prefix, again and again.

    python benchmarks/starts.py --starts 200                 # a bucket (localbucket)
    python benchmarks/starts.py --starts 200 --store folder
    python benchmarks/starts.py --starts 20 --store lossy    # it loses a fifth of its answers

Both must end with exit code 0, and the shards must equal, byte for byte, those of one calm run. The
drivers are two processes that run the whole command again and again and wait for each other before
each start, so that they meet.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click
import fake_model
from soak import QUIET, bucket, command, dataset, hashes

from sia_gen.core.store.objects import Location

SHARDS = 3  # of three categories, of which one is made
LONGEST = 120.0  # seconds for one start


def drive(orders: Connection, more: dict[str, str], log: str, gate: Barrier) -> None:
    """Is one driver: for each command line it is sent, meets the other at the gate and runs it."""
    from sia_gen.cli.main import main as sia_gen

    os.environ.update(more)
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    while call := orders.recv():
        os.ftruncate(descriptor, 0)
        sys.argv = ["sia-gen", *call[call.index("run") :], "--join"]
        gate.wait(LONGEST)
        try:
            sia_gen()
            orders.send(0)
        except SystemExit as error:
            orders.send(error.code or 0)


class Pair:
    """Two drivers in processes of their own."""

    def __init__(self, more: dict[str, str], logs: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.gate = context.Barrier(2)
        self.logs = [logs / f"{number}.txt" for number in range(2)]
        self.orders = []
        for log in self.logs:
            here, there = context.Pipe()
            driver = context.Process(
                target=drive, args=(there, more, str(log), self.gate), daemon=True
            )
            driver.start()
            self.orders.append(here)

    def start(self, call: list[str]) -> list[str]:
        """Lets both begin at once, and returns what was wrong."""
        for orders in self.orders:
            orders.send(call)
        faults = []
        for orders, log in zip(self.orders, self.logs, strict=True):
            if not orders.poll(LONGEST):
                faults.append("hung")
            elif code := orders.recv():
                said = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
                faults.append(f"exit code {code}: {' '.join(said)}")
        return faults


def wrong(out: Location, calm: dict[str, str]) -> list[str]:
    """Returns in what a finished run differs from a calm one."""
    found = [] if hashes(out) == calm else ["other bytes than a calm run's"]
    left = [str(path) for path in out.rglob("*") if path.name.startswith(".tmp-")]
    return found + [f"left over: {path}" for path in left]


@click.command()
@click.option("--starts", default=200, show_default=True)
@click.option("--store", type=click.Choice(["folder", "bucket", "lossy"]), default="bucket")
def main(starts: int, store: str) -> None:
    """Start two drivers together again and again."""
    fake_model.announce()
    began, bad = time.monotonic(), 0
    rate = 0.2 if store == "lossy" else 0.0
    with (
        tempfile.TemporaryDirectory(prefix="sia-gen-starts-") as folder,
        bucket(store, Path(folder), rate) as (place, more),
    ):
        root = Path(folder)
        data = dataset(root)

        def call(out: Location) -> list[str]:
            return [*command(out, data, "local", 0.0, "", SHARDS), "--categories", "brick"]

        subprocess.run(call(root / "calm"), check=True, **QUIET)
        calm = hashes(root / "calm")
        pair = Pair(more, root)
        for number in range(starts):
            out = place.parent / f"start-{number}"
            faults = pair.start(call(out)) or wrong(out, calm)
            bad += bool(faults)
            if faults or (number + 1) % 10 == 0:
                print(f"{number + 1} starts, {bad} wrong {'; '.join(faults)}", flush=True)
            if "hung" in faults:
                break
    print(f"{store}: {number + 1} starts of two, {bad} wrong in {time.monotonic() - began:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
