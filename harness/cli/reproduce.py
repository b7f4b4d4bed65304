"""`harness reproduce`: options from the command line, and nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from harness.cli.options import tell
from harness.reproduce.options import Options
from sia_gen.core.commands import click_options
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.options import taken


@click.command(
    epilog="""\b
Examples:
  harness reproduce --list
  harness reproduce realnet/5a --data textures --budget small --out runs/5a
  harness reproduce realnet/1 --data mvtec-ad --budget paper --model runs/adm --out runs/table-1
  harness reproduce realnet/5a --data parts --budget small --train --weights=random --steps 200

\b
Run again, it goes on where it stopped; failed cells are tried again. Exit code 3: some cells
failed, they are named below the table. OUT/table.txt, .md, .csv, .json and .tex hold the table.
""",
)
@click.argument("table", required=False, metavar="PAPER/TABLE")
@click.option("--list", "show", is_flag=True, help="Show the tables that have a recipe, and stop.")
@click_options(Options)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of everything that is made; default runs/reproduce-PAPER-TABLE.",
)
@click.option(
    "--steps",
    "numbers",
    metavar="N",
    type=click.IntRange(min=1),
    help="Training steps of a cell, instead of the budget's.",
)
@click.option(
    "--per-category",
    type=click.IntRange(min=1),
    metavar="N",
    help="Synthetic images, instead of the budget's.",
)
@click.option(
    "--executor",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="local: one cell after the other; ray: side by side.",
)
@click.option("--address", metavar="HOST:PORT", help="A running Ray cluster; auto finds it.")
@click.option(
    "--num-cpus",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="CPUs a cell on Ray.",
)
@click.option(
    "--num-gpus",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="GPUs a cell on Ray.",
)
@click.option("--dry-run", is_flag=True, help="Print every command line and stop.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "md", "csv", "json", "latex")),
    default="table",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def reproduce(
    table: str | None,
    show: bool,
    out: Path | None,
    numbers: int | None,
    per_category: int | None,
    executor: str,
    address: str | None,
    num_cpus: float,
    num_gpus: float,
    dry_run: bool,
    form: str,
    as_json: bool,
    **values: Any,
) -> None:
    """Make a table of a paper again: published | measured | difference.

    Every cell is generation, training, scoring and measuring by the commands of this project.
    """  # fmt: skip
    from harness.reproduce import plan as planning

    if show:
        for name, title in planning.listed():
            print(f"{name:14} {title}")
        return
    if table is None:
        raise UserError("name a table, such as realnet/5a; `harness reproduce --list` shows them")
    given = {"steps": numbers, "per_category": per_category}
    options = taken(
        Options,
        values,
        table=table,
        out=out or Path("runs") / f"reproduce-{planning.slug(table.replace('/', '-'))}",
        numbers=tuple((k, str(v)) for k, v in given.items() if v is not None),
    )
    from harness.processes import hold
    from harness.reproduce import table as tables
    from harness.reproduce import work
    from sia_gen.core.data.dataset import open_dataset

    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: give a folder")
    made = planning.plan(options, open_dataset(options.data))
    if dry_run:
        seen: set[str] = set()
        for cell in made.cells:
            print(f"# {cell.row} · {cell.category} · seed {cell.seed}")
            for job in cell.jobs:
                print(shlex.join(job.command) if job.name not in seen else f"# {job.name}: above")
                seen.add(job.name)
        from harness.reproduce.needs import needs

        for line in needs(made, options):
            print(f"# needs {line}")
        return
    with hold(options.out):
        work.claim(
            options.out,
            {"schema": 1, "table": table, "data": options.data, "budget": options.budget,
             "model": options.model,
             "textures": options.textures,
             "train_arguments": list(options.train_arguments), "numbers": dict(options.numbers)},
        )  # fmt: skip
        if executor == "ray":
            from harness.reproduce.on_ray import run_on_ray

            states = run_on_ray(
                options.out, made, tell, address=address, cpus=num_cpus, gpus=num_gpus
            )
        else:
            states = work.run_in_order(options.out, made, tell)
        tables.publish(options.out, made, states)
    print(tables.render(made, states, "json" if as_json else form), end="")
    failed = [key for key, state in states.items() if state["state"] == "failed"]
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(states)} cells failed and are named below the table; mend the"
            " cause and run the same command again"
        )
