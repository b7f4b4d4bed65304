"""Prediction's throughput: a folder of 1-megapixel images, by the former loop and by today's.

    python benchmarks/predict.py --images 500 --out runs/predict-speed

The former loop read, resized, judged, drew and wrote one image after the other. Both run in turns
on the same files, so that what else the machine does falls on both alike; memory is that of a
process of its own. Then a process is killed in the middle and started again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (1152, 864)  # width, height


def photographs(folder: Path, count: int) -> None:
    """Writes gray-brown textures as JPEG, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:04}.jpg"
        if path.is_file():
            continue
        coarse = rng.integers(60, 200, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
        noise = rng.integers(-12, 13, (SIZE[1], SIZE[0], 1))
        pixels = np.clip(np.asarray(image).astype(np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=92)


def untrained(root: Path) -> Path:
    """Returns a checkpoint of the recipe `mobile` with random weights: only its cost counts."""
    from detector import checkpoint, models
    from detector.options import model_options, resolve
    from detector.scorefile import IMAGE_SCORES
    from sia_gen.core.plugins import load

    plugin = load(models, "realnet")
    options = resolve("mobile", {"weights": "random", "source": "noise"}, plugin.Options)
    model = plugin.build(model_options(plugin.Options, options.options), 0)
    scores = {f"score_{name}": [0.5] * 20 for name in IMAGE_SCORES}
    facts = {
        "category": "line/part",
        "options": dataclasses.asdict(options),
        "backbone": model.backbone.label,
        "reference": {"images": "held-out", **scores},
    }
    checkpoint.publish(root / "untrained", model, facts)
    return root / "untrained"


def former(paths: list[Path], model: Path, out: Path) -> None:
    """The loop of version 0.1: one image after the other, in one thread but for the network."""
    import torch

    from detector import checkpoint, overlay
    from detector.maps import anomaly_maps
    from detector.scorefile import image_scores
    from detector.threshold import decide
    from sia_gen.core.pixels.images import encode_png, read_image, resize_image
    from sia_gen.core.store.files import write_bytes

    device = torch.device("cpu")
    trained = checkpoint.load(model, device, fast=True)
    threshold = decide(trained.facts, "max", 0.05).threshold
    for path in paths:
        image = resize_image(read_image(path), trained.options.resolution)
        map_HW = anomaly_maps(trained.model, image[None], device)[0]
        image_scores(map_HW)
        picture = overlay.panel(image, map_HW, threshold)
        write_bytes(out / "overlays" / f"{path.name}.png", encode_png(picture, level=6))


def today(paths: list[Path], model: Path, out: Path, overlays: bool) -> None:
    """The pipeline, on these files."""
    from detector.inference.predict import PredictOptions, Run

    options = PredictOptions(device="cpu", overlays=overlays)
    run = Run(paths[0].parent, model, out, options)
    run.look(paths)
    run.summary()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compare(paths: list[Path], model: Path, out: Path, turns: int) -> None:
    """Prints images a second and CPU seconds an image of the three ways, in turns."""
    import torch

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    ways = {
        "former loop": lambda p, o: former(p, model, o),
        "today, overlays": lambda p, o: today(p, model, o, True),
        "today, table only": lambda p, o: today(p, model, o, False),
    }
    spent = dict.fromkeys(ways, (0.0, 0.0))
    for turn in range(turns):
        part = paths[turn::turns]
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), _cpu()
            way(part, out / f"{name.replace(' ', '-').replace(',', '')}-{turn}")
            before = spent[name]
            spent[name] = (before[0] + time.perf_counter() - wall, before[1] + _cpu() - cpu)
        done = len(paths[: (turn + 1) * len(part)])
        print(f"after {done} images:")
        base = spent["former loop"]
        for name, (wall, cpu) in spent.items():
            print(
                f"{name:18} {done / wall:6.1f} images/s, {base[0] / wall:.2f} x;"
                f" {1000 * cpu / done:.1f} ms CPU an image, {base[1] / cpu:.2f} x less",
                flush=True,
            )


def memory(folder: Path, model: Path, out: Path) -> None:
    """Prints the peak memory of a process that predicts a tenth, and of one that predicts all."""
    for count in (len(list(folder.iterdir())) // 10, len(list(folder.iterdir()))):
        code = (
            "import resource, sys; from pathlib import Path; sys.path.insert(0, 'benchmarks');"
            "from predict import today;"
            f"paths = sorted(Path({str(folder)!r}).iterdir())[:{count}];"
            f"today(paths, Path({str(model)!r}), Path({str(out / f'memory-{count}')!r}), True);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        print(f"{count} images: at most {int(done.stdout)} MiB", flush=True)


def killed(folder: Path, model: Path, out: Path) -> None:
    """Kills a prediction in its middle, starts it again, and prints what was lost."""
    words = [sys.executable, "-m", "detector.cli", "predict", str(folder), "--model", str(model)]
    words += ["--out", str(out)]
    count = len(list(folder.iterdir()))
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    lines = out / "predictions.jsonl"
    while not lines.is_file() or lines.read_bytes().count(b"\n") < count // 3:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = lines.read_bytes().count(b"\n")
    drawn = len(list((out / "overlays").iterdir()))
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    summary = json.loads((out / "predictions.json").read_text())
    total = lines.read_bytes().count(b"\n")
    print(
        f"killed with {kept} rows and {drawn} pictures; started again: {summary['images']} images,"
        f" {total - kept} computed",
        flush=True,
    )


def main() -> None:
    """Makes the images and a checkpoint, and prints the three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    folder = given.out / "photographs"
    photographs(folder, given.images)
    model = untrained(given.out)
    now = given.out / f"predictions-{int(time.time())}"
    compare(sorted(folder.iterdir()), model, now, given.turns)
    memory(folder, model, now)
    killed(folder, model, now / "killed")


if __name__ == "__main__":
    main()
