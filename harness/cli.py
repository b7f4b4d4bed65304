"""`harness`: the commands that measure. Each imports what it needs when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from sia_gen import __version__
from sia_gen.core.errors import UserError, near_names, run_command

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
EPILOG = """\b
Example, on the embedded dataset:
  harness baseline --data textures --category all --out runs/baseline
  harness evaluate runs/baseline --out runs/results
  harness leaderboard runs/results --html runs/leaderboard.html

\b
Exit codes: 0 done, 1 internal error, 2 usage or input, 3 finished but incomplete,
4 a record does not match its name, 130 and 143 stopped by a signal.
"""


class Group(click.Group):
    """A group that offers near names for a misspelt command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments begin with."""
        if not ctx.resilient_parsing and args[0] not in self.commands and args[0][:1] != "-":
            near = near_names(args[0], sorted(self.commands))
            raise click.UsageError(f"No such command {args[0]!r}.{near}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order of use, not of the alphabet."""
        del ctx
        return list(self.commands)


@click.group(cls=Group, epilog=EPILOG, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="harness")
def group() -> None:
    """Measure synthetic anomalies and detectors, and rank what was measured."""


def tell(text: str) -> None:
    """Writes a line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Writes a JSON value to stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


data_option = click.option(
    "--data",
    default="textures",
    show_default=True,
    metavar="DIR",
    help="Folder in MVTec-AD's layout, or the embedded dataset textures.",
)
category_option = click.option(
    "--category",
    "--categories",
    "category",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="all, or names and globs separated by commas.",
)
results_option = click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RESULTS",
    help="Results folder; records are added to it, never changed.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Records as JSON on stdout.")


@group.command(
    context_settings=SETTINGS,
    epilog="""\b
Example:
  harness quality --shards runs/sia --data textures --features tiny-random --out runs/results
  harness quality --shards runs/sia --data textures --category brick \\
      --features timm:mobilenetv2_100 --feature-weights mobilenetv2_100.safetensors \\
      --out runs/results

\b
Feature networks:
  inception          FID's Inception-v3; needs torch-fidelity and its weights file
  alex, vgg, squeeze LPIPS trunks; need torchvision's weights file
  timm:NAME          any timm network; needs --feature-weights FILE or pretrained
  tiny-random        a small random network to try things out: no measure of quality
Several networks: repeat --features, and give weights as --feature-weights NAME=FILE.
""",
)
@click.option(
    "--shards",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder of sia-gen, or a tar.",
)
@data_option
@category_option
@click.option(
    "--features",
    multiple=True,
    required=True,
    metavar="NETWORK",
    help="Feature network; repeat for several.",
)
@click.option(
    "--feature-weights",
    multiple=True,
    metavar="FILE",
    help="Weights file, or pretrained; NAME=FILE where several networks are given.",
)
@click.option("--image-size", type=int, metavar="PIXELS", help="Default: the synthetic images'.")
@click.option("--source", metavar="NAME", help="Synthesis method; default: as the shards say.")
@click.option("--limit", type=click.IntRange(min=2), metavar="N", help="Use the first N images.")
@results_option
@json_option
def quality(
    shards: Path,
    data: str,
    category: str,
    features: tuple[str, ...],
    feature_weights: tuple[str, ...],
    image_size: int | None,
    source: str | None,
    limit: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Measure synthetic images: FID, KID and clustered LPIPS against real ones."""
    networks = pair_weights(features, feature_weights)
    from harness import quality as room
    from harness import tables
    from harness.leaderboard import build

    options = room.Options(image_size=image_size, source=source, limit=limit)
    found = room.run(shards, data, category, networks, out, options, tell)
    if as_json:
        print_json(found)
    else:
        print(tables.as_text(build([(out, record) for record in found])), end="")


def pair_weights(
    features: tuple[str, ...], weights: tuple[str, ...]
) -> list[tuple[str, str | None]]:
    """Returns (network, weights or None); UserError where a file belongs to no network."""
    if len(set(features)) != len(features):
        raise UserError("--features names a network twice")
    given: dict[str, str] = {}
    for text in weights:
        name, equals, file = text.partition("=")
        if equals and name in features:
            given[name] = file
        elif len(features) == 1:
            given[features[0]] = text
        else:
            raise UserError(
                f"--feature-weights {text}: with several networks give NAME=FILE, NAME one of"
                f" {', '.join(features)}"
            )
    return [(name, given.get(name)) for name in features]


@group.command(
    context_settings=SETTINGS,
    epilog="""\b
Example:
  harness evaluate runs/realnet runs/baseline --out runs/results
  harness evaluate runs/realnet/textures/brick/scores --out runs/results --json
""",
)
@click.argument(
    "scores", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SCORES..."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where test images lie that score files name by relative path.",
)
@click.option(
    "--examples",
    type=click.IntRange(0, 50),
    default=2,
    show_default=True,
    metavar="N",
    help="Example pictures kept of each outcome.",
)
@results_option
@json_option
def evaluate(
    scores: tuple[Path, ...], data: Path | None, examples: int, out: Path, as_json: bool
) -> None:
    """Measure detection: image and pixel AUROC and AP, and PRO, of score folders.

    SCORES are score folders, or folders searched for them at any depth.
    """
    from harness import detection, tables
    from harness.leaderboard import build

    found = detection.run(scores, out, data=data, each=examples, tell=tell)
    if as_json:
        print_json(found)
    else:
        print(tables.as_text(build([(out, record) for record in found])), end="")


@group.command(
    context_settings=SETTINGS,
    epilog="""\b
Example:
  harness baseline --data textures --category all --out runs/baseline
  harness evaluate runs/baseline --out runs/results
""",
)
@data_option
@category_option
@click.option(
    "--size",
    type=click.IntRange(16, 2048),
    metavar="PIXELS",
    help="Side of the images; default: the training images' median, at most 256.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder; score folders are written to RUN/<dataset>/<category>/scores.",
)
@click.option("--json", "as_json", is_flag=True, help="The score folders as JSON on stdout.")
def baseline(data: str, category: str, size: int | None, out: Path, as_json: bool) -> None:
    """Score test images by plain colour statistics, the row that a detector must beat."""
    from harness import baseline as room

    folders = room.run(data, category, out, size=size, tell=tell)
    if as_json:
        print_json([str(folder) for folder in folders])
    else:
        for folder in folders:
            print(folder)


@group.command(
    context_settings=SETTINGS,
    epilog="""\b
Example:
  harness leaderboard runs/results
  harness leaderboard runs/results --format csv > board.csv
  harness leaderboard runs/results --html board.html --contact-sheet runs/contact-sheet.png
""",
)
@click.argument(
    "results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULTS..."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "csv", "json", "md")),
    default="table",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
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
def leaderboard(
    results: tuple[Path, ...],
    form: str,
    as_json: bool,
    html: Path | None,
    sheets: tuple[Path, ...],
    title: str,
    rank_by: str,
) -> None:
    """Rank results: a table, CSV, JSON or Markdown, and an HTML page.

    Rows of another protocol are never averaged; published numbers stand in columns of their own.
    """
    from harness import records, tables
    from harness.leaderboard import build

    if sheets and html is None:
        raise UserError("--contact-sheet is shown on the page: give --html FILE too")
    sections = build(records.find(results), rank_by=rank_by)
    if html is not None:
        from harness import report

        report.write(html, sections, sheets, title)
        tell(f"page: {html}")
    print(tables.render(sections, "json" if as_json else form), end="")


def _call() -> None:
    try:
        code = group.main(prog_name="harness", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "harness"
        message = f"{' '.join(error.format_message().split())} (see `{path} --help`)"
        _json_error(message, 2)
        raise UserError(message) from error
    except click.ClickException as error:
        raise UserError(error.format_message()) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except UserError as error:
        _json_error(str(error), error.exit_code)
        raise
    if isinstance(code, int) and code:
        sys.exit(code)


def _json_error(message: str, code: int) -> None:
    if "--json" in sys.argv[1:]:
        print(json.dumps({"error": message, "exit_code": code}))


def main() -> None:
    """Runs the command line."""
    run_command(_call)


if __name__ == "__main__":
    main()
