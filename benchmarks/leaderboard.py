"""What a leaderboard of many records costs: CPU seconds of `harness leaderboard`, all else equal.

    python benchmarks/leaderboard.py --records 20000
    python benchmarks/leaderboard.py --records 20000 --profile     # where they go

The records are of one that was measured here, with curves; 20 methods in 5 protocols each, on 20
categories, the rest seeds.
"""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import random
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click
import numpy as np

from detector import scorefile
from harness import records
from harness.measure.detection import evaluate

SIDE, IMAGES = 32, 60


def measured(folder: Path) -> dict[str, Any]:
    """Returns the record of fabricated scores, as `harness evaluate` makes it."""
    rng = np.random.default_rng(0)
    masks = np.zeros((IMAGES, SIDE, SIDE), dtype=np.uint8)
    masks[::2, 4:12, 4:12] = 1
    maps = (rng.random(masks.shape) + 0.5 * masks).astype(np.float32)
    items = [
        {"path": f"test/{i}.png", "defect": "hole" if masks[i].any() else "good",
         "anomalous": bool(masks[i].any()), "has_mask": bool(masks[i].any()),
         **scorefile.image_scores(maps[i])}
        for i in range(IMAGES)
    ]  # fmt: skip
    scores = scorefile.Scores(
        category="parts/bolt", maps_NHW=maps, masks_NHW=masks, items=items,
        protocol={"detector": "x", "resolution": SIDE}, run={"seed": 0},
    )  # fmt: skip
    scorefile.write(folder / "scores", scores)
    return evaluate(folder / "scores", folder / "one", None, 1)[0]


def write(results: Path, template: dict[str, Any], count: int) -> None:
    """Writes so many records as files, without waiting for the disk."""
    (results / records.FOLDER).mkdir(parents=True)
    rng = random.Random(0)
    for number in range(count):
        rest, category = divmod(number, 20)
        rest, protocol = divmod(rest, 5)
        seed, method = divmod(rest, 20)
        record = json.loads(json.dumps(template))
        record |= {"category": f"part-{category:02}", "method": f"method-{method:02}", "seed": seed}
        record["protocol"] |= {"options_sha256": f"{protocol:064x}"}
        for entry in record["metrics"].values():
            if entry["value"] is not None:
                entry["value"] = rng.random()
        path = results / records.FOLDER / f"{records.identity(record)}.json"
        path.write_text(json.dumps(record, indent=2), encoding="utf-8")


@click.command()
@click.option("--records", "count", default=20_000, show_default=True)
@click.option("--profile", is_flag=True, help="The 25 functions that take longest.")
def main(count: int, profile: bool) -> None:
    """Measure one leaderboard."""
    with tempfile.TemporaryDirectory(prefix="sia-gen-board-") as folder:
        results = Path(folder) / "results"
        write(results, measured(Path(folder)), count)
        size = sum(p.stat().st_size for p in (results / records.FOLDER).iterdir())
        print(f"{count} records, {size / 2**20:.0f} MiB", flush=True)
        if profile:
            from harness.cli.main import group

            with redirect_stdout(io.StringIO()), cProfile.Profile() as watch:
                group(["leaderboard", str(results)], standalone_mode=False)
            pstats.Stats(watch, stream=sys.stderr).sort_stats("tottime").print_stats(25)
            return
        began = time.monotonic()
        call = [sys.executable, "-m", "harness.cli", "leaderboard", str(results)]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{used.ru_utime + used.ru_stime:.1f} CPU s ({time.monotonic() - began:.1f} s on this"
            f" machine), peak {used.ru_maxrss / 2**20:.2f} GiB"
        )


if __name__ == "__main__":
    main()
