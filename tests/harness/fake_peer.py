"""Stands in for `harness.peers.worker`: does to a cell what the file $FAKE_PEERS says.

Each line is a model and what becomes of it: `done`, `crash`, `kill`, `hang`, `lacks`, `lie`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def main(folder: Path) -> int:
    spec = json.loads((folder / "spec.json").read_text())
    rules = dict(line.split() for line in Path(os.environ["FAKE_PEERS"]).read_text().splitlines())
    with (folder.parents[3] / "calls").open("a") as file:
        file.write(spec["model"] + "\n")
    what = rules[spec["model"]]
    print("training", flush=True)
    if what == "crash":
        raise MemoryError("no room for the memory")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(60)
    if what == "lacks":
        write_json(folder / "result.json", {"state": "not run", "reason": "needs a download of x"})
    if what == "done":
        from harness_support import scores_of

        from detector import scorefile

        facts = {"train_seconds": 2.0, "images_per_second": 5.0, "peak_memory_mib": 640}
        made = scores_of(spec["category"], seed=len(spec["model"]))
        scorefile.write(folder / "scores", scorefile.Scores(
            category=made.category, maps_NHW=made.maps_NHW, masks_NHW=made.masks_NHW,
            items=made.items, protocol=spec["protocol"],
            run=facts | {"seed": spec["seed"]}))  # fmt: skip
        write_json(folder / "result.json", {"state": "done"})
    return 0  # `lie`: leaves nothing behind and calls it a success


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
