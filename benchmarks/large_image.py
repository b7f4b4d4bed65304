"""Memory of a 20-megapixel photograph by tiles, beyond that of the loaded model.

    python benchmarks/large_image.py [--width 5472 --height 3648]

The recipe's network with random weights (memory does not depend on them) sees one batch of tiles;
then the large image is read from a JPEG and predicted, with map, mask and boxes. The difference of
the process's peaks (ru_maxrss) is what the image costs.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from detector import models
from detector.api import Detector
from detector.engine import Engine
from detector.frame import Frame
from detector.options import model_options, resolve
from detector.prediction import Decision
from detector.tiles import BATCH
from sia_gen.core.plugins import load


def engine(recipe: str, side: int) -> Engine:
    """Returns the engine of a recipe that looks at tiles of a side, untrained."""
    plugin = load(models, "realnet")
    options = resolve(
        recipe, {"weights": "random", "tiles": str(side), "source": "noise"}, plugin.Options
    )
    model = plugin.build(model_options(plugin.Options, options.options), 0).eval()
    model = model.to(memory_format=torch.channels_last)
    return Engine(model=model, frame=Frame.of(options), device=torch.device("cpu"))


def peak() -> int:
    """Returns the process's peak memory so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Prints the peak before and after the large image, and their difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=5472)
    parser.add_argument("--height", type=int, default=3648)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--recipe", default="mobile")
    given = parser.parse_args()
    decision = Decision(threshold=0.9, promise=None, origin="nothing: untrained", least_area=4)
    detector = Detector(engine(given.recipe, given.side), decision, {"category": "none"})
    some = np.zeros((given.side * 2, given.side * 2, 3), dtype=np.uint8)
    detector.predict(some)
    before = peak()
    print(f"loaded, {BATCH} tiles seen: {before} MiB", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        coarse = np.random.default_rng(0).integers(60, 200, (given.height // 16, given.width // 16))
        small = Image.fromarray(coarse.astype(np.uint8))
        small.resize((given.width, given.height)).save(path, quality=90)
        del small
        began, cpu = time.perf_counter(), time.process_time()
        found = detector.predict(path)
        regions = len(found.boxes)
    print(
        f"{given.width} x {given.height}: {peak()} MiB, {peak() - before} MiB more;"
        f" {time.process_time() - cpu:.0f} CPU s, {time.perf_counter() - began:.0f} s,"
        f" {regions} regions"
    )


if __name__ == "__main__":
    main()
