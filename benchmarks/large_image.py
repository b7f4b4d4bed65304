"""Memory of a 20-megapixel photograph by tiles, beyond that of the loaded model.

    python benchmarks/large_image.py --out runs/large [--width 5472 --height 3648]

Two processes: one loads a tiled checkpoint and predicts an image of one tile, the other the large
image, with map, mask and boxes. The difference of their peaks (ru_maxrss) is the image's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from predict import photographs

SIDE = 256


def train(root: Path) -> Path:
    """Returns a checkpoint of the recipe `mobile` that looks at tiles, of two steps."""
    photographs(root / "line" / "part" / "train" / "good", 4)
    words = ["--data", str(root / "line"), "--out", str(root / "run"), "--recipe", "mobile"]
    words += ["--weights", "random", "--source", "cutpaste", "--steps", "2", "--batch-size", "2"]
    words += ["--set", "afs_batches=1", "--set", "cache_gib=0", "--tiles", str(SIDE)]
    subprocess.run([sys.executable, "-m", "detector.cli", "train", *words], check=True)
    return root / "run" / "line" / "part"


def peak(model: Path, image: Path) -> int:
    """Returns the peak memory in MiB of a process that predicts one image, all of its parts."""
    code = (
        "import resource; from detector import Detector;"
        f"r = Detector.load({str(model)!r}, device='cpu').predict({str(image)!r});"
        "r.mask, r.boxes; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return int(done.stdout)


def main() -> None:
    """Prints both peaks and their difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=5472)
    parser.add_argument("--height", type=int, default=3648)
    given = parser.parse_args()
    model = train(given.out)
    sizes = {"small": (SIDE, SIDE), "large": (given.width, given.height)}
    found = {}
    for name, (width, height) in sizes.items():
        path = given.out / f"{name}.jpg"
        coarse = np.random.default_rng(0).integers(60, 200, (height // 16, width // 16, 3))
        small = Image.fromarray(coarse.astype(np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
        found[name] = peak(model, path)
        print(f"{width} x {height}: at most {found[name]} MiB", flush=True)
    print(f"the image costs {found['large'] - found['small']} MiB")


if __name__ == "__main__":
    main()
