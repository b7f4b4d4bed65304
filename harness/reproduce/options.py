"""What `harness reproduce` can be told of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sia_gen.core import shared_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option
from sia_gen.core.provenance import hash_options


def slug(text: str) -> str:
    """Returns text as part of a file name: letters, digits, dots and dashes, never empty.

    Texts that would share a name are told apart by their hash.
    """
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
    return plain if plain == text else f"{plain or 'x'}-{hash_options(text)[:6]}"


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """What the user asked for; numbers replace those of the budget."""

    table: str = option(help="PAPER/TABLE of a recipe.", command_line=False)
    data: str = shared_options.data()
    out: Path | None = option(
        None,
        "Folder of everything that is made; default runs/reproduce-PAPER-TABLE.",
        metavar="DIR",
    )
    budget: str = option(
        "small",
        "small: minutes a cell on a CPU; paper: as published, for GPUs.",
        choices=("small", "paper"),
    )
    model: str | None = option(
        None, "Diffusion model.", metavar="MODEL", shown="shipped, or trained first"
    )
    categories: str = shared_options.categories()
    rows: str = option("*", "Rows by their names.", metavar="GLOBS")
    seeds: tuple[int, ...] = option(
        (), "Everything random follows from one.", low=0, metavar="N,N,...", shown="the budget's"
    )
    textures: str | None = option(
        None, "Textures for rows that blend them in (dtd).", metavar="DIR"
    )
    train_arguments: tuple[str, ...] = option(
        (),
        "Argument added to every `detector train`, e.g. --train --weights=FILE; repeat.",
        flag="--train",
        metavar="ARGUMENT",
        repeat=True,
    )
    steps: int | None = option(
        None, "Training steps of a cell, instead of the budget's.", low=1, metavar="N"
    )
    per_category: int | None = option(
        None, "Synthetic images, instead of the budget's.", low=1, metavar="N"
    )
    executor: str = option(
        "local",
        "local: one cell after the other; ray: side by side.",
        choices=("local", "ray"),
    )
    address: str | None = option(None, "A running Ray cluster; auto finds it.", metavar="HOST:PORT")
    num_cpus: float = option(1.0, "CPUs a cell on Ray.", low=0.1)
    num_gpus: float = option(0.0, "GPUs a cell on Ray.", low=0)
    dry_run: bool = option(False, "Print every command line and stop.")
    form: str = option(
        "table", "What to print.", flag="--format", choices=("table", "md", "csv", "json", "latex")
    )
    as_json: bool = option(False, "The same as --format json.", flag="--json")

    def __post_init__(self) -> None:
        """Refuses values that no table can be made with, and a seed that is given twice."""
        super().__post_init__()
        if len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds {self.seeds}: expected different numbers")

    @property
    def folder(self) -> Path:
        """The folder of everything that is made."""
        return self.out or Path("runs") / f"reproduce-{slug(self.table.replace('/', '-'))}"

    @property
    def numbers(self) -> dict[str, str]:
        """The numbers that replace those of the budget, as text."""
        asked = {"steps": self.steps, "per_category": self.per_category}
        return {name: str(value) for name, value in asked.items() if value is not None}
