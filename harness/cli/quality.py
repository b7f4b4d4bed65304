"""`harness quality`: options from the command line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import (
    categories_option,
    data_option,
    json_option,
    print_json,
    results_option,
    tell,
)
from sia_gen.core.commands import Option
from sia_gen.core.errors import UserError


@click.command(
    epilog="""\b
Example:
  harness quality --shards runs/sia --data textures --features tiny-random --out runs/results
  harness quality --shards runs/sia --data textures --categories brick \\
      --features timm:mobilenetv2_100 --feature-weights mobilenetv2_100.safetensors \\
      --out runs/results

\b
Feature networks:
  inception          FID's Inception-v3; needs torch-fidelity and its weights file
  alex, vgg, squeeze LPIPS trunks; need torchvision's weights file
  dinov2             DINOv2's small ViT; needs --feature-weights FILE or pretrained
  timm:NAME          any timm network; needs --feature-weights FILE or pretrained
  tiny-random        a small random network to try things out: no measure of quality
`harness weights list` says what is there and how to get the rest.
Several networks: repeat --features, and give weights as --feature-weights NAME=FILE.
""",
)
@click.option(
    "--shards",
    required=True,
    metavar="RUN",
    help="Run of sia-gen: a folder, a tar, or an address (copied first).",
)
@data_option
@categories_option
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
@click.option(
    "--resolution",
    cls=Option,
    former=("--image-size",),
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the images.  [default: the synthetic images']",
)
@click.option("--source", metavar="NAME", help="Synthesis method; default: as the shards say.")
@click.option("--limit", type=click.IntRange(min=2), metavar="N", help="Use the first N images.")
@results_option
@json_option
def quality(
    shards: str,
    data: str,
    categories: str,
    features: tuple[str, ...],
    feature_weights: tuple[str, ...],
    resolution: int | None,
    source: str | None,
    limit: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Measure synthetic images against real ones.

    FID, KID, density, coverage and clustered LPIPS to real anomalies; whether they copy training
    images, with the closest pairs; KID by strength.
    """
    networks = pair_weights(features, feature_weights)
    from harness.board import tables
    from harness.board.build import build
    from harness.quality import run as room
    from sia_gen.core.store.mirror import local_folder
    from sia_gen.core.store.objects import locate

    options = room.Options(image_size=resolution, source=source, limit=limit)
    found = room.run(local_folder(locate(shards)), data, categories, networks, out, options, tell)
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
