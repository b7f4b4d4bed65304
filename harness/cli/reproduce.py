"""`harness reproduce`."""

from __future__ import annotations

import shlex
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
def reproduce(table: str | None, show: bool, **values: Any) -> None:
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
    options: Options = taken(Options, values, table=table)
    out = options.folder
    from harness.reproduce import table as tables
    from harness.reproduce import work
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.store.held import held

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")
    made = planning.plan(options, open_dataset(options.data))
    if options.dry_run:
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
    with held(out):
        work.claim(
            out,
            {
                "schema": 1,
                "table": table,
                "data": options.data,
                "budget": options.budget,
                "model": options.model,
                "textures": options.textures,
                "train_arguments": list(options.train_arguments),
                "numbers": options.numbers,
            },
        )
        if options.executor == "ray":
            from harness.reproduce.on_ray import run_on_ray

            states = run_on_ray(
                out,
                made,
                tell,
                address=options.address,
                cpus=options.num_cpus,
                gpus=options.num_gpus,
            )
        else:
            states = work.run_in_order(out, made, tell)
        tables.publish(out, made, states)
    print(tables.render(made, states, "json" if options.as_json else options.form), end="")
    failed = [key for key, state in states.items() if state["state"] == "failed"]
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(states)} cells failed and are named below the table; mend the"
            " cause and run the same command again"
        )
