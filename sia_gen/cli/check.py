"""`sia-gen check`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import click

from sia_gen.core import shared_options
from sia_gen.core.commands import click_options, json_option, print_json
from sia_gen.core.log import say
from sia_gen.core.options import option, taken
from sia_gen.core.text import printable


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What is looked through."""

    named: str | None = option(
        None, "The same as the argument DATA.", flag="--data", metavar="DATA"
    )
    categories: str = shared_options.categories()
    value_range: tuple[float, float] | None = shared_options.value_range()


@click.command(
    "check",
    epilog="""\b
Examples:
  sia-gen check parts
  sia-gen check mvtec-ad=/data/mvtec --categories 'b*'
  sia-gen check list.csv

\b
Exit code 4 when there is an error: a file that cannot be read, a mask of another size than
its image or all over it, a mask among the photographs, a test image that is in training too,
a range of 16-bit files that had to be guessed, counts other than the published ones. What is
only a note (odd modes, empty masks, strays, few images) is handled.
""",
)
@click.argument("data", required=False)
@click_options(CheckOptions)
@json_option
def check(data: str | None, as_json: bool, **values: Any) -> None:
    """Look through the dataset DATA: a folder, a list (CSV, JSON lines) or NAME=PATH."""
    options: CheckOptions = taken(CheckOptions, values)
    if data and options.named:
        raise click.UsageError("DATA is given twice, once as --data")
    data = data or options.named
    if data is None:
        raise click.UsageError("Missing argument 'DATA'.")
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.data.inspection import inspect
    from sia_gen.core.data.problems import lines
    from sia_gen.core.errors import VerificationError
    from sia_gen.core.progress import counter

    dataset = open_dataset(data, options.value_range)

    report = inspect(dataset, dataset.select(options.categories), counter("read", "images"))
    if as_json:
        print_json(report.to_json())
    else:
        print(printable(f"{report.dataset}: layout {report.layout}, {report.root}"))
        for facts in report.about.values():
            about = f"  {facts['title']}, licence {facts['licence']}, {facts['homepage']}"
            print(printable(about))
        for row in report.categories:
            extra = f", {row['train_anomalous']} anomalous set apart" * bool(row["train_anomalous"])
            line = (
                f"  {row['category']} ({row['kind']}): train {row['train_good']}{extra}; test"
                f" {row['test_good']} good, {row['test_anomalous']} anomalous; foreground"
                f" {row['foreground']}"
            )
            print(printable(line))
        for line in lines(report.problems):
            print(printable(line))
    notes = len(report.problems) - report.errors
    summary = f"{report.errors} errors, {notes} notes in {len(report.categories)} categories"
    say(f"{data}: {summary}")
    if report.errors:
        sys.exit(VerificationError.exit_code)
