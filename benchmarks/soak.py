"""SIGKILL of the driver after so many more shards and a random second, then a rerun; compared.

    python benchmarks/soak.py --kills 50                        # executor local, a folder
    python benchmarks/soak.py --executor ray --kills 20         # a Ray of its own for each driver
    python benchmarks/soak.py --executor cluster --kills 20     # one standing cluster of two nodes
    python benchmarks/soak.py --store lossy --kills 20          # a bucket that loses answers (moto)

The files must equal, byte for byte, those of a run that nobody disturbed: no shard lost, none made
twice or differently, no temporary file left. A run that gets nowhere for five minutes is hung.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import fake_model
import numpy as np
from lossy_proxy import LossyProxy

from sia_gen.core.pixels.images import encode_png
from sia_gen.core.store.objects import Location, ObjectPath, locate

HANG = 300.0  # seconds without one more shard
SHARDS = 60
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def dataset(root: Path) -> Path:
    """Writes a dataset of three categories and returns it."""
    for number, category in enumerate(("brick", "grass", "gravel")):
        folder = root / "mini" / category / "train" / "good"
        folder.mkdir(parents=True)
        image = np.full((20, 20, 3), 40 * number, dtype=np.uint8)
        (folder / "0.png").write_bytes(encode_png(image))
    return root / "mini"


def command(
    out: object, data: Path, executor: str, delay: float, address: str, shards: int = SHARDS
) -> list[str]:
    """Returns the command of the run: so many shards of 8 images."""
    return [
        *[sys.executable, "-m", "sia_gen.cli", "run", "--out", str(out), "--data", str(data)],
        *["--model", f"testing:noise?delay={delay}", "--per-category", str(shards * 8 // 3)],
        *["--shard-size", "8", "--batch-size", "4"],
        *["--executor", "local" if executor == "local" else "ray"],
        *(["--address", address] if address else []),
    ]


def records(out: Location) -> int:
    """Returns how many shards are finished."""
    base = out / "shards"
    return sum(1 for _ in base.rglob("*-?????.json")) if base.is_dir() else 0


def hashes(out: Location) -> dict[str, str]:
    """Returns the SHA-256 of every shard and of the indices over them, by name."""
    tars: list[Location] = [*(out / "shards").rglob("*.tar")]
    named = [*tars, out / "index.json", out / "wids.json"]
    return {
        str(path)[len(str(out)) :]: hashlib.sha256(path.read_bytes()).hexdigest() for path in named
    }


@contextmanager
def cluster(executor: str) -> Iterator[str]:
    """Yields the address of a standing cluster of two nodes, where one is asked for."""
    if executor != "cluster":
        yield ""
        return
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    made.add_node(num_cpus=1, **small)
    try:
        yield made.address
    finally:
        made.shutdown()


@contextmanager
def moto_server() -> Iterator[int]:
    """Yields the port of moto's S3 server, in this process."""
    import moto.server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@contextmanager
def localbucket(root: Path) -> Iterator[int]:
    """Yields the port of localbucket, an S3 server of its own kind, in a process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    (root / "buckets").mkdir()
    call = [sys.executable, "-m", "localbucket", str(root / "buckets"), "--port", str(port)]
    server = subprocess.Popen(call, **QUIET)
    with socket.socket() as client:
        while client.connect_ex(("127.0.0.1", port)):
            time.sleep(0.2)
    try:
        yield port
    finally:
        server.terminate()


@contextmanager
def bucket(store: str, root: Path, rate: float = 0.2) -> Iterator[tuple[Location, dict[str, str]]]:
    """Yields where the disturbed run lies, and what its drivers' environment has more: the way to
    a bucket (of moto for `lossy`, else of localbucket) that loses answers at this rate.

    Whoever looks on sees the bucket itself.
    """
    if store == "folder":
        yield root / "killed", {}
        return
    import s3fs

    server = moto_server() if store == "lossy" else localbucket(root)
    with server as port:
        proxy = LossyProxy(port, rate)
        os.environ.update({
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        })  # fmt: skip
        s3fs.S3FileSystem().mkdir("bucket")
        more = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"} if rate else {}
        yield locate("s3://bucket/killed"), more
        print(f"requests lost: {proxy.before} before they arrived, {proxy.after} after")
        proxy.close()


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[bytes], out: Location) -> str:
    """Waits for an event; returns "reached", "ended" (the run did first) or "hung"."""
    had, moved = records(out), time.monotonic()
    while not reached():
        if process.poll() is not None:
            return "ended"
        if (now := records(out)) > had:
            had, moved = now, time.monotonic()
        if time.monotonic() - moved > HANG:
            return "hung"
        time.sleep(0.2 if isinstance(out, ObjectPath) else 0.05)
    return "reached"


@dataclass
class Count:
    """What happened so far."""

    kills: int = 0
    ended: int = 0  # drivers that were done before they could be killed
    failed: int = 0  # drivers that ended with an error
    hung: int = 0
    runs: int = 0  # finished and compared
    lost: int = 0  # shards that a finished run lacked
    different: int = 0  # shards or indices with other bytes
    doubled: int = 0  # shards that verification finds twice
    strays: int = 0


def start(call: list[str], more: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts a driver."""
    return subprocess.Popen(call, env={**os.environ, **more}, **QUIET)


def one_kill(
    process: subprocess.Popen[bytes], out: Location, moments: random.Random, count: Count
) -> None:
    """Kills a driver after 1 to 5 more shards and a part of a second."""
    goal = records(out) + moments.randint(1, 5)
    seen = wait_until(lambda: records(out) >= goal, process, out)
    time.sleep(moments.random())
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        count.kills += 1
    else:
        count.ended += 1
        count.failed += process.returncode != 0
    count.hung += seen == "hung"
    process.wait()


def finish(
    process: subprocess.Popen[bytes], out: Location, calm: dict[str, str], count: Count
) -> None:
    """Lets a driver end, and compares what is there with a calm run."""
    if wait_until(lambda: False, process, out) == "hung":
        process.kill()
        count.hung += 1
    count.failed += process.wait() not in {0, -signal.SIGKILL}
    found = hashes(out)
    count.runs += 1
    count.lost += len(calm.keys() - found.keys())
    count.different += sum(found[name] != calm[name] for name in calm.keys() & found.keys())
    count.strays += sum(1 for _ in out.rglob(".tmp-*"))
    verified = subprocess.run(
        [sys.executable, "-m", "sia_gen.cli", "verify", str(out), "--json"],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    problems = json.loads(verified.stdout)["problems"]
    count.doubled += sum(problem["kind"] in {"duplicate", "foreign"} for problem in problems)
    count.different += sum(problem["kind"] not in {"duplicate", "foreign"} for problem in problems)


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--executor", type=click.Choice(["local", "ray", "cluster"]), default="local")
@click.option("--store", type=click.Choice(["folder", "lossy"]), default="folder")
@click.option("--seconds", default=0.0, help="End after so many seconds; 0: never.")
@click.option("--seed", default=0, show_default=True)
def main(kills: int, executor: str, store: str, seconds: float, seed: int) -> None:
    """Kill a driver again and again."""
    moments, count, began = random.Random(seed), Count(), time.monotonic()
    fake_model.announce()
    with (
        tempfile.TemporaryDirectory(prefix="sia-gen-soak-") as folder,
        cluster(executor) as address,
        bucket(store, Path(folder)) as (place, more),
    ):
        root = Path(folder)
        data = dataset(root)
        subprocess.run(command(root / "calm", data, "local", 0.0, ""), check=True, **QUIET)
        calm = hashes(root / "calm")
        round_, out = 0, place
        while count.kills < kills and (not seconds or time.monotonic() - began < seconds):
            call = command(out, data, executor, 0.05, address)
            if records(out) < SHARDS - 5:
                one_kill(start(call, more), out, moments, count)
                print(f"{count.kills} kills, {records(out)} records", flush=True)
                continue
            finish(start(call, more), out, calm, count)
            print(count, flush=True)
            round_ += 1
            out = place.parent / f"{place.name}-{round_}"
        finish(start(command(out, data, executor, 0.0, address), more), out, calm, count)
    print(f"{executor}, {store}: {count} in {time.monotonic() - began:.0f} s")
    wrong = count.failed, count.hung, count.lost, count.different, count.doubled, count.strays
    sys.exit(any(wrong))


if __name__ == "__main__":
    main()
