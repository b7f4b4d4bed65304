"""`realnet-lite`: what chose its parts (development categories), and what it reaches (others).

    python benchmarks/lite_data.py --out dev --dtd DTD --tiles magnetic-tile/magnetic_tile
    python benchmarks/lite.py --data dev --textures DTD --out runs/lite-dev [--row light] [--table]
    python benchmarks/lite.py --data magnetic-tile --textures DTD --out runs/lite --row light \\
        --seeds 0,1,2 --keep-every 200
    python benchmarks/lite.py --data boards --textures DTD --out runs/parts --steps 120 \\
        --row "random half: --channels 0.5 --set reduction=rdr"
    python benchmarks/lite.py --out runs/lite --table

A row is one of those named below, or a name of one's own and the arguments of `detector train` that
set it apart (a row with a --source of its own gives the textures it needs itself). A cell is one
training of one category with one seed; the same command goes on where it was stopped. Of each the
discriminator's logit, the distance to the memory and the residual of the whole image are computed
once for all test images, and summed in several ways: a cell's JSON holds, for each sum and kept
step, image AUROC by three rules, pixel AUROC, pixel AP and PRO up to 0.3, with the seconds that
training took.
"""

from __future__ import annotations

import re
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from detector import checkpoint, run_folder, scorefile
from detector.data.task import single
from detector.models.realnet import RealNet
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.pixels.images import read_image
from sia_gen.core.statistics.pixels import rank_both
from sia_gen.core.statistics.ranking import rank
from sia_gen.core.store.files import read_json, write_json

# Rows: what sets them apart from the recipe.
ROWS: dict[str, tuple[str, ...]] = {
    "light": (),
    "one-memory": ("--set", "bank_by_layer=false", "--set", "bank_neighbourhood=1"),
    "paper": ("--set", "discriminator=paper", "--set", "rrs=max&avg"),
    "unet": (
        "--layers", "2,3,4", "--channels", "40,64,64", "--set", "reconstruction=unet",
        "--set", "unet_blocks=1", "--set", "discriminator=paper", "--set", "rrs=max&avg",
        "--set", "sees_bank=false", "--set", "afs_batches=16", "--learning-rate", "1e-3",
    ),
}  # fmt: skip
# Weights of discriminator, memory (the mean of all memories) and whole image.
SUMS: dict[str, tuple[float, ...]] = {
    "discriminator": (1, 0, 0), "memory": (0, 1, 0), "whole": (0, 0, 1), "1 + 1": (1, 1, 0),
    "memory + whole": (0, 1, 1), "1 + 1 + 1": (1, 1, 1), "1 + 1 + 2": (1, 1, 2),
    "1 + 1 + 4": (1, 1, 4), "2 + 1 + 2": (2, 1, 2),
}  # fmt: skip
FIGURES = (*scorefile.IMAGE_SCORES, "pixel_auroc", "pixel_ap", "pro")


@torch.no_grad()
def evidence(model: RealNet, category: Category, size: int) -> np.ndarray[Any, Any]:
    """Returns discriminator, memory and whole image in deviations, (2 or 3, N, H, W)."""
    found: list[torch.Tensor] = []
    for start in range(0, len(category.test), 16):
        part = [read_image(e.path, size) for e in category.test[start : start + 16]]
        images = torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2).float().div(255)
        mean, deviation = model.levels[:, :, None, None, None].unbind(1)
        seen = (model.evidence(images) - mean) / deviation
        groups = len(model.bank.groups) if model.bank else 0
        memory = seen[1 : 1 + groups].mean(0, keepdim=True)
        found.append(torch.cat([seen[:1], memory, seen[1 + groups :]]))
    return torch.cat(found, dim=1).numpy()


def figures(maps_NHW: np.ndarray[Any, Any], category: Category) -> dict[str, float]:
    """Returns the figures of maps of a category's test images, in percent."""
    labels = np.array([e.anomalous for e in category.test])
    size = maps_NHW.shape[-1]
    empty = np.zeros((size, size), dtype=np.bool_)
    drawn = [e.read_mask(size) for e in category.test]
    masks = np.stack([empty if m is None else m for m in drawn]).astype(np.uint8)
    scores = [scorefile.image_scores(one) for one in maps_NHW]
    found = {
        name: rank(np.array([s[f"score_{name}"] for s in scores]), labels).area(1.0)
        for name in scorefile.IMAGE_SCORES
    }
    pixels, regions = rank_both(maps_NHW, masks)
    found |= {"pixel_auroc": pixels.area(1.0), "pixel_ap": pixels.average_precision()}
    return {name: 100 * value for name, value in (found | {"pro": regions.area(0.3)}).items()}


def measure(folder: Path, category: Category) -> dict[str, Any]:
    """Returns a checkpoint's figures for each sum that its evidence allows."""
    trained = checkpoint.load(folder, torch.device("cpu"), fast=True)
    if not isinstance(trained.model, RealNet):
        raise TypeError(f"{folder} holds no RealNet")
    seen = evidence(trained.model, category, trained.options.resolution)
    sums = {
        name: np.tensordot(np.float32(weights[: len(seen)]), seen, 1)
        for name, weights in SUMS.items()
        if not any(weights[len(seen) :])
    }
    return {
        "step": trained.facts["step"],
        "seconds": trained.facts["seconds"],
        "cpu_seconds": trained.facts["cpu_seconds"],
        "train_images": trained.facts["inputs"]["train_images"],
        "sums": {name: figures(maps, category) for name, maps in sums.items()},
    }


def row_of(text: str) -> tuple[str, tuple[str, ...]]:
    """Returns a row's name and the arguments that set it apart."""
    row, colon, arguments = text.partition(": ")
    if colon:
        return row, tuple(shlex.split(arguments))
    if row not in ROWS:
        raise click.UsageError(
            f"row {row!r}: expected one of {', '.join(ROWS)}, or NAME: ARGUMENTS"
        )
    return row, ROWS[row]


def run(category: Category, row: str, seed: int, out: Path, arguments: tuple[str, ...]) -> None:
    """Trains and measures one cell, unless its JSON is there."""
    slug = re.sub("[^a-z0-9&.]+", "-", row.lower()).strip("-")
    name = f"{category.name}-{slug}-{seed}"
    if (out / f"{name}.json").is_file():
        return
    print(f"== {name}", file=sys.stderr, flush=True)
    train = [sys.executable, "-m", "detector.cli", "train", "--recipe", "realnet-lite"]
    train += ["--categories", category.name, "--out", str(out / "runs" / name), "--device", "cpu"]
    subprocess.run([*train, "--seed", str(seed), *arguments], check=True)
    folder = run_folder.folder_of(out / "runs" / name, single(category, []))
    kept = sorted((folder / run_folder.KEPT).glob("step-*"))
    document = {"category": category.name, "row": row, "seed": seed}
    looks = [measure(part, category) for part in [*kept, folder]]
    write_json(out / f"{name}.json", {**document, "looks": looks})


def _spoken(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def table(out: Path) -> str:
    """Returns a Markdown table of all cells that are done: means and deviations over seeds."""
    held: dict[tuple[str, str, int, str], list[dict[str, float]]] = defaultdict(list)
    costs: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for path in sorted(out.glob("*.json")):
        cell = read_json(path)
        for look in cell["looks"]:
            key = (cell["category"], cell["row"], int(look["step"]))
            costs[key].append(float(look["cpu_seconds"]))
            for name, found in look["sums"].items():
                held[(*key, name)].append(found)
    heads = ["category", "row", "steps", "sum", "seeds", *FIGURES, "train CPU s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for key, found in held.items():
        shown = [_spoken([one[name] for one in found]) for name in FIGURES]
        cost = f"{statistics.fmean(costs[key[:3]]):.0f}"
        lines.append("| " + " | ".join([*map(str, key), str(len(found)), *shown, cost])
                     + " |")  # fmt: skip
    return "\n".join(lines)


@click.command()
@click.option("--data", help="Without it nothing is run.")
@click.option("--category", default="all", show_default=True)
@click.option("--textures", type=click.Path(path_type=Path), help="DTD's images.")
@click.option("--out", default="runs/lite", show_default=True, type=click.Path(path_type=Path))
@click.option("--row", "rows", multiple=True, default=("light",), help="A row, or NAME: ARGUMENTS.")
@click.option("--seeds", default="0", show_default=True)
@click.option("--steps", type=int, help="Instead of the recipe's.")
@click.option("--keep-every", type=int, help="Measure these steps too.")
@click.option("--table", "table_only", is_flag=True, help="Print the table of what is done.")
def main(
    data: str | None,
    category: str,
    textures: Path | None,
    out: Path,
    rows: tuple[str, ...],
    seeds: str,
    steps: int | None,
    keep_every: int | None,
    table_only: bool,
) -> None:
    """Runs the cells that are not done, then prints the table."""
    if data is not None and not table_only:
        common: tuple[str, ...] = ("--data", data)
        common += ("--steps", str(steps)) if steps else ()
        common += ("--keep-every", str(keep_every)) if keep_every else ()
        categories = open_dataset(data).select(category)
        for seed in (int(s) for s in seeds.split(",")):
            for row, own in map(row_of, rows):
                arguments = common + own
                if textures and "--source" not in own:
                    arguments += ("--textures", str(textures))
                for one in categories:
                    run(one, row, seed, out, arguments)
    print(table(out))


if __name__ == "__main__":
    main()
