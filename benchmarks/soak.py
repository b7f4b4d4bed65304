"""SIGKILL of the driver at random moments, each followed at once by a rerun; then compared.

    python benchmarks/soak.py                            # 20 kills, executor local
    python benchmarks/soak.py --executor ray --kills 6

The set of files must equal, byte for byte, that of a run that nobody disturbed: no shard lost, none
made differently, no temporary file left.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import fake_model
import numpy as np

from sia_gen.core.pixels.images import encode_png


def dataset(root: Path) -> Path:
    """Writes a dataset of three categories and returns it."""
    for number, category in enumerate(("brick", "grass", "gravel")):
        folder = root / "mini" / category / "train" / "good"
        folder.mkdir(parents=True)
        image = np.full((20, 20, 3), 40 * number, dtype=np.uint8)
        (folder / "0.png").write_bytes(encode_png(image))
    return root / "mini"


def command(out: Path, data: Path, executor: str, delay: float) -> list[str]:
    """Returns the command of the run: 60 shards of 8 images."""
    return [
        *[sys.executable, "-m", "sia_gen.cli", "run", "--out", str(out), "--data", str(data)],
        *["--model", f"testing:noise?delay={delay}", "--per-category", "160"],
        *["--shard-size", "8", "--batch-size", "4", "--executor", executor],
    ]


def hashes(out: Path) -> dict[str, str]:
    """Returns the SHA-256 of every shard and of the indices over them."""
    names = [*(out / "shards").rglob("*.tar"), out / "index.json", out / "wids.json"]
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in names
    }


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--executor", default="local", show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, executor: str, seed: int) -> None:
    """Kill a driver again and again."""
    fake_model.announce()
    moments = random.Random(seed)
    longest = 2.5 if executor == "local" else 14.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = dataset(root)
        calm, out = root / "calm", root / "killed"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command(calm, data, "local", 0.0), check=True, **quiet)  # type: ignore[call-overload]
        killed = ended = 0
        for _ in range(kills):
            process = subprocess.Popen(command(out, data, executor, 0.05), **quiet)  # type: ignore[call-overload]
            time.sleep(moments.uniform(0.0, longest))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
            else:
                ended += 1
            process.wait()
            done = len(list(out.rglob("*-?????.json")))
            print(f"kill {killed}: {done} records", flush=True)
        subprocess.run(command(out, data, executor, 0.0), check=True, **quiet)  # type: ignore[call-overload]
        time.sleep(5.0 if executor == "ray" else 0.0)  # the last chance of killed drivers' workers
        verified = subprocess.run(
            [sys.executable, "-m", "sia_gen.cli", "verify", str(out)],
            check=False,
            **quiet,  # type: ignore[call-overload]
        ).returncode
        strays = [path.name for path in out.rglob(".tmp-*")]
        same = hashes(out) == hashes(calm)
        print(
            f"{executor}: {killed} kills, {ended} runs ended before theirs; byte-equal: {same};"
            f" verify: exit {verified}; stray files: {len(strays)}"
        )
    if not same or strays or verified:
        sys.exit(1)


if __name__ == "__main__":
    main()
