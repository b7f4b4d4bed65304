"""`harness leaderboard`: options from the command line, and nothing else."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from harness.cli.options import RESULTS, tell
from sia_gen.core.commands import Option
from sia_gen.core.errors import UserError


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
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "csv", "json", "md", "latex")),
    default="table",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--wide", is_flag=True, help="All columns, beyond a terminal's 120 characters.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write one self-contained page with example images.",
)
@click.option(
    "--contact-sheet",
    "sheets",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PNG",
    help="Picture to show on the page; repeat for several.",
)
@click.option("--title", default="Leaderboard", show_default=True, help="The page's title.")
@click.option(
    "--rank-by",
    default="image_auroc_max",
    show_default=True,
    metavar="METRIC",
    help="Detection metric that ranks the rows.",
)
@click.option("--columns", metavar="GLOBS", help="Print only these metrics, e.g. 'image_*,pro_*'.")
@click.option("--bold-best", is_flag=True, help="LaTeX: the best of each column in bold.")
@click.option("--label", default="", metavar="NAME", help="LaTeX: the first table's label.")
@click.option(
    "--published",
    is_flag=True,
    help="Also show systems that papers give numbers for and that were not run here.",
)
@click.option("--kind", type=click.Choice(("detection", "quality")), help="Only this kind.")
@click.option("--dataset", metavar="GLOBS", help="Only these datasets.")
@click.option(
    "--categories",
    "category",
    cls=Option,
    former=("--category",),
    metavar="GLOBS",
    help="Only these categories.",
)
@click.option("--method", metavar="GLOBS", help="Only these methods.")
@click.option("--source", metavar="GLOBS", help="Only these sources of synthetic anomalies.")
def leaderboard(
    results: tuple[Path, ...],
    form: str,
    as_json: bool,
    wide: bool,
    html: Path | None,
    sheets: tuple[Path, ...],
    title: str,
    rank_by: str,
    columns: str | None,
    bold_best: bool,
    label: str,
    published: bool,
    **only: str | None,
) -> None:
    """Rank results: a table, CSV, JSON, Markdown or LaTeX, and an HTML page.

    RESULTS are results folders; default runs/results. Rows of another protocol are never averaged;
    published numbers stand in columns of their own.
    """
    if not results:
        results = (RESULTS,)
        tell(f"defaults: RESULTS {RESULTS}")
    from harness import records
    from harness.board import exports
    from harness.board.build import build, filtered

    if sheets and html is None:
        raise UserError("--contact-sheet is shown on the page: give --html FILE too")
    found = records.find(results)
    gc.freeze()  # the collector would walk all records again and again, and none is garbage
    sections = build(filtered(found, only), rank_by=rank_by)
    if published:
        from harness.board.published import PublishedNumbers
        from harness.board.published_rows import add

        sections = add(sections, PublishedNumbers(), only["dataset"])
    if html is not None:
        from harness.board import page as report

        report.write(html, sections, sheets, title)
        tell(f"page: {html}")
    form = "json" if as_json else form
    if form != "latex" and (bold_best or label):
        raise UserError("--bold-best and --label are LaTeX's: give --format latex too")
    printed = exports.render(
        sections, form, columns=columns, bold=bold_best, label=label, wide=wide
    )
    print(printed, end="")
