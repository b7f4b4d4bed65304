"""What `harness reproduce` can be told of a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sia_gen.core.errors import UserError
from sia_gen.core.options import check, option


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for; `numbers` replace those of the budget (steps, per_category, ...)."""

    table: str = option(help="PAPER/TABLE of a recipe.", command_line=False)
    data: str = option(
        "textures",
        "A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md).",
        metavar="DATA",
    )
    out: Path = option(help="Folder of everything that is made.", command_line=False)
    budget: str = option(
        "small",
        "small: minutes a cell on a CPU; paper: as published, for GPUs.",
        choices=("small", "paper"),
    )
    model: str | None = option(
        None, "Diffusion model.", metavar="MODEL", shown="shipped, or trained first"
    )
    categories: str = option(
        "all",
        "all, or names and globs separated by commas.",
        former=("category",),
        metavar="NAMES",
    )
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
    numbers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that no table can be made with, and a seed that is given twice."""
        check(self)
        if len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds {self.seeds}: expected different numbers")
