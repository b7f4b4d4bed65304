"""`harness leaderboard`."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.cli.options import RESULTS, tell
from sia_gen.core.commands import click_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option, taken


@dataclass(frozen=True, kw_only=True)
class BoardOptions(Checked):
    """Which rows and columns are shown, and in what form."""

    form: str = option(
        "table",
        "What to print.",
        flag="--format",
        choices=("table", "csv", "json", "md", "latex"),
    )
    as_json: bool = option(False, "The same as --format json.", flag="--json")
    wide: bool = option(False, "All columns, beyond a terminal's 120 characters.")
    html: Path | None = option(
        None, "Also write one self-contained page with example images.", metavar="FILE"
    )
    contact_sheet: tuple[Path, ...] = option(
        (), "Picture to show on the page; repeat for several.", metavar="PNG", repeat=True
    )
    title: str = option("Leaderboard", "The page's title.")
    rank_by: str = option(
        "image_auroc_max", "Detection metric that ranks the rows.", metavar="METRIC"
    )
    columns: str | None = option(
        None, "Print only these metrics, e.g. 'image_*,pro_*'.", metavar="GLOBS"
    )
    bold_best: bool = option(False, "LaTeX: the best of each column in bold.")
    label: str = option("", "LaTeX: the first table's label.", metavar="NAME")
    published: bool = option(
        False, "Also show systems that papers give numbers for and that were not run here."
    )
    kind: str | None = option(None, "Only this kind.", choices=("detection", "quality"))
    dataset: str | None = option(None, "Only these datasets.", metavar="GLOBS")
    categories: str | None = option(
        None, "Only these categories.", metavar="GLOBS", former=("category",)
    )
    method: str | None = option(None, "Only these methods.", metavar="GLOBS")
    source: str | None = option(None, "Only these sources of synthetic anomalies.", metavar="GLOBS")

    def __post_init__(self) -> None:
        """Refuses what only the page, or LaTeX, could show where it is not asked for."""
        super().__post_init__()
        if self.contact_sheet and self.html is None:
            raise UserError("--contact-sheet is shown on the page: give --html FILE too")
        if (self.bold_best or self.label) and self.printed != "latex":
            raise UserError("--bold-best and --label are LaTeX's: give --format latex too")

    @property
    def printed(self) -> str:
        """The form that is printed."""
        return "json" if self.as_json else self.form


@click.command(
    epilog="""\b
Example:
  harness leaderboard
  harness leaderboard runs/results --format csv > board.csv
  harness leaderboard runs/results --method 'realnet*' --categories 'brick,gr*' --format latex
  harness leaderboard runs/results --published
  harness leaderboard runs/results --html board.html --contact-sheet runs/contact-sheet.png
""",
)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path), metavar="[RESULTS]...")
@click_options(BoardOptions)
def leaderboard(results: tuple[Path, ...], **values: Any) -> None:
    """Rank results: a table, CSV, JSON, Markdown or LaTeX, and an HTML page.

    RESULTS are results folders; default runs/results. Rows of another protocol are never averaged;
    published numbers stand in columns of their own.
    """
    options: BoardOptions = taken(BoardOptions, values)
    if not results:
        results = (RESULTS,)
        tell(f"defaults: RESULTS {RESULTS}")
    from harness import records
    from harness.board import exports, page
    from harness.board.build import FILTERS, build, filtered

    found = records.find(results)
    gc.freeze()  # the collector would walk all records again and again, and none is garbage
    only = {field: values[name] for field, name in FILTERS.items()}
    sections = build(filtered(found, only), rank_by=options.rank_by)
    if options.published:
        from harness.board.published import PublishedNumbers
        from harness.board.published_rows import add

        sections = add(sections, PublishedNumbers(), options.dataset)
    if options.html is not None:
        page.write(options.html, sections, options.contact_sheet, options.title)
        tell(f"page: {options.html}")
    printed = exports.render(
        sections,
        options.printed,
        columns=options.columns,
        bold=options.bold_best,
        label=options.label,
        wide=options.wide,
    )
    print(printed, end="")
