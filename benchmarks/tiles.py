"""Whole images against tiles on printed circuit boards: same pixels trained on, same test.

    python benchmarks/tiles.py SHARED/data/deeppcb/pairs --weights FILE --out runs/tiles

DeepPCB (MIT) has 640 x 640 pairs of a template and a board with marked defects of some 30 pixels.
Every third pair is for the test: its template is a normal image, its board a defective one, whose
boxes are the mask. The other templates are the normal training images. All maps are measured at
640 x 640. Run again, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

# Name, options, times the budget's steps: all see the same number of pixels of 8 images a step.
ARMS = {
    "whole-128": (["--resolution", "128"], 4),
    "whole-256": (["--resolution", "256"], 1),
    "tiles-128-32": (["--tiles", "128:32"], 4),
    "tiles-256-64": (["--tiles", "256:64"], 1),
}
METRICS = ("image_auroc_max", "image_auroc_avgpool16_max", "pixel_auroc", "pixel_ap", "pro_0.3")


def build(pairs: Path, root: Path) -> None:
    """Writes the dataset in MVTec-AD's layout, as PNG."""
    if (root / "done").is_file():
        return
    names = sorted(p.name.removesuffix("_temp.jpg") for p in pairs.glob("*_temp.jpg"))
    for number, name in enumerate(names):
        template = Image.open(pairs / f"{name}_temp.jpg").convert("L")
        place = "test/good" if number % 3 == 0 else "train/good"
        (root / place).mkdir(parents=True, exist_ok=True)
        template.save(root / place / f"{name}.png")
        if number % 3:
            continue
        for folder in ("test/defect", "ground_truth/defect"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        board = Image.open(pairs / f"{name}_test.jpg").convert("L")
        board.save(root / "test/defect" / f"{name}.png")
        mask = np.zeros(board.size[::-1], dtype=np.uint8)
        for line in (pairs / f"{name}.txt").read_text().splitlines():
            left, top, right, bottom, _ = (int(v) for v in line.split())
            mask[top:bottom, left:right] = 255
        Image.fromarray(mask).save(root / "ground_truth/defect" / f"{name}_mask.png")
    (root / "done").touch()


def run(*words: str) -> None:
    """Runs a command of the project; its errors end this script too."""
    print("+", " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True)


def main() -> None:
    """Trains, scores and measures each arm, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--source", default="nsa")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arms", default=",".join(ARMS), help="By name, without spaces.")
    given = parser.parse_args()
    data = given.out / "deeppcb"
    build(given.pairs, data / "board")
    print("| arm | seed | " + " | ".join(METRICS) + " | train s |")
    print("|---" * (len(METRICS) + 3) + "|")
    for seed in range(given.seeds):
        for arm in given.arms.split(","):
            options, times = ARMS[arm]
            out = given.out / f"{arm}-{seed}"
            run(
                "detector.cli", "train", "--data", str(data), "--categories", "board",
                "--out", str(out), "--recipe", "mobile", "--weights", given.weights,
                "--source", given.source, "--steps", str(given.steps * times), "--batch-size", "8",
                "--seed", str(seed), "--set", "schedule=cosine", "--set", "afs_batches=4",
                "--holdout", "0", *options,
            )  # fmt: skip
            run(
                "detector.cli", "score", "--run", str(out), "--data", str(data),
                "--categories", "board", "--full-size",
            )  # fmt: skip
            run("harness.cli", "evaluate", str(out), "--out", str(out / "results"))
            record = next((out / "results").rglob("*.json"))
            metrics = json.loads(record.read_text())["metrics"]
            facts = json.loads((out / "deeppcb/board/checkpoint.json").read_text())
            shown = []
            for name in METRICS:
                entry = metrics.get(name, {"value": None})
                shown.append("-" if entry["value"] is None else f"{entry['value']:.3f}")
            print(f"| {arm} | {seed} | " + " | ".join(shown) + f" | {facts['seconds']:.0f} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
