"""Two `sia-gen run --join` that begin at the same moment on an empty prefix, again and again.

    python benchmarks/starts.py --starts 200                 # a bucket (moto)
    python benchmarks/starts.py --starts 200 --store folder
    python benchmarks/starts.py --starts 20 --store lossy    # it loses a fifth of its answers

Both must end with exit code 0, and the shards must equal, byte for byte, those of one calm run. The
drivers are processes of their own, forked with everything imported, so that they meet.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click
import fake_model
from soak import QUIET, bucket, command, dataset, hashes, records

from sia_gen.core.store.objects import Location

SHARDS = 3  # of three categories, of which one is made
PRELOAD = [
    "starts", "fake_model", "s3fs", "PIL.PngImagePlugin", "sia_gen.cli.run", "sia_gen.generate.run",
    "sia_gen.generate.contents.images", "sia_gen.generate.executors.local",
]  # fmt: skip
LONGEST = 120.0  # seconds for one start


def drive(call: list[str], more: dict[str, str], log: str, gate: Barrier) -> None:
    """Is one driver: waits for the other at the gate, and runs its command line."""
    from sia_gen.cli.main import main as sia_gen

    os.environ.update(more)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.argv = ["sia-gen", *call[call.index("run") :], "--join"]
    gate.wait(LONGEST)
    sia_gen()


def once(
    call: list[str], more: dict[str, str], out: Location, calm: dict[str, str], logs: Path
) -> list[str]:
    """Starts two drivers at once and returns what was wrong."""
    context = multiprocessing.get_context("forkserver")
    gate = context.Barrier(2)
    names = [str(logs / f"{number}.txt") for number in range(2)]
    drivers = [context.Process(target=drive, args=(call, more, log, gate)) for log in names]
    for driver in drivers:
        driver.start()
    faults = []
    for driver, log in zip(drivers, names, strict=True):
        driver.join(LONGEST)
        if driver.exitcode is None:
            driver.kill()
            faults.append("hung")
        elif driver.exitcode:
            said = Path(log).read_text(encoding="utf-8").strip().splitlines()[-1:]
            faults.append(f"exit code {driver.exitcode}: {' '.join(said)}")
        Path(log).unlink()
    if not faults and hashes(out) != calm:
        faults.append(f"{records(out)} shards, or other bytes than a calm run's")
    faults += [f"left over: {path}" for path in out.rglob(".tmp-*")]
    return faults


@click.command()
@click.option("--starts", default=200, show_default=True)
@click.option("--store", type=click.Choice(["folder", "bucket", "lossy"]), default="bucket")
def main(starts: int, store: str) -> None:
    """Start two drivers together again and again."""
    fake_model.announce()
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
    began, wrong = time.monotonic(), 0
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
        for number in range(starts):
            out = place.parent / f"start-{number}"
            faults = once(call(out), more, out, calm, root)
            wrong += bool(faults)
            if faults or (number + 1) % 20 == 0:
                print(f"{number + 1} starts, {wrong} wrong {'; '.join(faults)}", flush=True)
    print(f"{store}: {starts} starts of two, {wrong} wrong in {time.monotonic() - began:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
