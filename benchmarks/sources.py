"""What a synthesis is worth to RealNet, and what its parts are: tables over seeds, one budget.

    python benchmarks/sources.py --data DIR --weights FILE --out runs/sources
        [--textures DIR] [--sdas RUN] [--seeds 0,1,2] [--ablate cutpaste] [--only NAME] [--table]
    python benchmarks/sources.py --data textures --recipe realnet-demo --out runs/in-place \\
        --row "blended: --source sdas --shards runs/sia" \\
        --row "half and half: --source sdas:0.5,sdas-inplace:0.5 --shards runs/both"

With --row the table has these rows and no others, each a name and the arguments of `detector train`
that set it apart; without it, the sources and ablations below. Each cell is `detector train`,
`detector score` and `harness evaluate` with --recipe (`mobile` at --resolution for --steps steps;
another one as it stands), the last checkpoint kept. The same command again goes on where it was
stopped. Sources whose input is absent (DTD's textures, shards of `sia-gen run`) are left out and
named. The tables give mean and standard deviation over the seeds that are done.
"""

from __future__ import annotations

import re
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import click

from sia_gen.core.store.files import read_json

METRICS = ("image_auroc_max", "image_auroc_avgpool16_max", "pixel_auroc", "pro_0.3", "pixel_ap")
ABLATIONS = [(reduction, rrs) for reduction in ("afs", "rdr", "rlpr") for rrs in ("max&avg", "off")]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: its name (a folder of the run), its table row, and what sets it apart."""

    name: str
    row: str
    arguments: tuple[str, ...]


def cells(
    seeds: list[int], textures: Path | None, sdas: Path | None, ablate: str
) -> tuple[list[Cell], list[str]]:
    """Returns the cells, seed by seed so that all rows grow alike, and the sources left out."""
    inputs = {"dtd": ("--textures", textures), "sdas": ("--shards", sdas)}
    usable, missing = {}, []
    for source in ("sdas", "dtd", "nsa", "cutpaste"):
        flag, path = inputs.get(source, ("", None))
        if flag and path is None:
            missing.append(source)
            continue
        usable[source] = ("--source", source, *((flag, str(path)) if flag else ()))
    found = []
    for seed in seeds:
        own = ("--seed", str(seed))
        for source, arguments in usable.items():
            found.append(Cell(name=f"{source}-{seed}", row=source, arguments=arguments + own))
        for reduction, rrs in ABLATIONS:
            if ablate not in usable:
                continue
            short = rrs.replace("&", "")
            # Half the channels: `mobile` keeps nearly all, which leaves little to select.
            settings = ("--set", f"reduction={reduction}", "--set", f"rrs={rrs}")
            settings += ("--channels", "0.5")
            found.append(
                Cell(
                    name=f"{ablate}-{reduction}-{short}-{seed}",
                    row=f"{ablate}, half the channels, {reduction}, RRS {rrs}",
                    arguments=usable[ablate] + settings + own,
                )
            )
    return found, missing


def rows_of(given: tuple[str, ...], seeds: list[int]) -> list[Cell]:
    """Returns the cells of rows written as NAME: ARGUMENTS, seed by seed."""
    found = []
    for seed in seeds:
        for text in given:
            row, _, arguments = text.partition(": ")
            name = f"{re.sub('[^a-z0-9]+', '-', row.lower())}-{seed}"
            own = (*shlex.split(arguments), "--seed", str(seed))
            found.append(Cell(name=name, row=row, arguments=own))
    return found


def run(cell: Cell, out: Path, data: str, common: tuple[str, ...]) -> None:
    """Trains, scores and measures one cell; what is done already is left alone."""
    folder, python = out / cell.name, [sys.executable, "-m"]
    shared = ["--data", data, "--categories", "all", "--device", "cpu"]
    train = [*python, "detector.cli", "train", *shared, "--out", str(folder)]
    subprocess.run([*train, *common, *cell.arguments], check=True)
    score = [*python, "detector.cli", "score", *shared, "--run", str(folder)]
    subprocess.run(score, check=True)
    measure = [*python, "harness.cli", "evaluate", str(folder), "--out", str(out / "results")]
    subprocess.run(measure, check=True, stdout=sys.stderr)


def _spoken(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def table(out: Path, wanted: list[Cell]) -> str:
    """Returns mean and deviation of each row that has a cell, in Markdown, in percent."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    records = {}
    for path in sorted((out / "results" / "records").glob("*.json")):
        record = read_json(path)
        records[str(Path(record["artifacts"]["scores"]).resolve())] = record
    rows: dict[str, int] = defaultdict(int)
    for cell in wanted:
        own = str((out / cell.name).resolve())
        found = [r for scores, r in records.items() if scores.startswith(own + "/")]
        rows[cell.row] += bool(found)
        for metric in METRICS if found else ():
            values[cell.row][metric].append(
                100 * statistics.fmean(r["metrics"][metric]["value"] for r in found)
            )
    lines = ["| | seeds | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 2) + "|"]
    for row, done in rows.items():
        if not done:
            continue
        shown = [_spoken(values[row][metric]) for metric in METRICS]
        lines.append(f"| {row} | {done} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--data", help="Without it nothing is run.")
@click.option("--recipe", default="mobile", show_default=True)
@click.option("--row", "rows", multiple=True, help="NAME: ARGUMENTS of detector train; repeat.")
@click.option("--weights", default="pretrained", show_default=True, help="Of mobilenetv2_100.")
@click.option("--out", default="runs/sources", show_default=True, type=click.Path(path_type=Path))
@click.option("--textures", type=click.Path(path_type=Path), help="DTD's images.")
@click.option("--sdas", type=click.Path(path_type=Path), help="Run folder of `sia-gen run`.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--ablate", default="cutpaste", show_default=True, help="The ablations' source.")
@click.option("--resolution", default=128, show_default=True)
@click.option("--steps", default=200, show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--only", help="Run this one cell.")
@click.option("--table", "table_only", is_flag=True, help="Print the tables of what is done.")
def main(
    data: str | None,
    recipe: str,
    rows: tuple[str, ...],
    weights: str,
    out: Path,
    textures: Path | None,
    sdas: Path | None,
    seeds: str,
    ablate: str,
    resolution: int,
    steps: int,
    batch: int,
    only: str | None,
    table_only: bool,
) -> None:
    """Runs the cells that are not done, then prints the table."""
    if data is None:
        print("hours of training: give --data (see --help)")
        return
    numbers, missing = [int(s) for s in seeds.split(",")], []
    if rows:
        wanted = rows_of(rows, numbers)
    else:
        wanted, missing = cells(numbers, textures, sdas, ablate)
    common: tuple[str, ...] = ("--recipe", recipe)
    if recipe == "mobile":
        common += ("--weights", weights, "--resolution", str(resolution), "--steps", str(steps))
        common += ("--batch-size", str(batch), "--set", "schedule=cosine")
        common += ("--set", "afs_batches=8", "--precision", "fp32")
    for cell in wanted:
        if not table_only and only in {None, cell.name}:
            print(f"== {cell.name}", file=sys.stderr, flush=True)
            run(cell, out, data, common)
    if missing:
        print(f"left out for want of input: {', '.join(missing)}", file=sys.stderr)
    print(table(out, wanted))


if __name__ == "__main__":
    main()
