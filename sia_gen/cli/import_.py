"""`sia-gen import`: a public ADM checkpoint as a model folder, or as a guiding classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sia_gen.core.commands import click_options
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option, taken

EPILOG = """\b
Examples:
  sia-gen import 256x256_diffusion.pt --dataset textures --out runs/adm-init
  sia-gen import bottle_cable.pt --dataset mine --classes bottle,cable --out runs/imported
  sia-gen import classifier.pt --dataset mine --classes bottle,cable --out runs/classifier
"""


@dataclass(frozen=True, kw_only=True)
class ImportOptions(Checked):
    """What a checkpoint is of, and where the folder goes."""

    dataset: str = option(help="Name of the dataset the classes belong to.")
    classes: str | None = option(None, "Category names by label; default: those of the manifest.")
    out: Path = option(help="New model folder.")
    resolution: int = option(256, "Side of the checkpoint's images in pixels.", low=8)
    head_channels: int = option(64, "Channels of an attention head.", low=1)
    seed: int = option(0, "Of a renewed embedding.")


def _class_names(dataset: str, classes: str | None) -> tuple[str, ...]:
    if classes:
        return tuple(name.strip() for name in classes.split(","))
    from sia_gen.core.data.manifest import read_manifest

    names = tuple(read_manifest(dataset))
    if not names:
        raise UserError(
            f"dataset {dataset!r} has no manifest: name the classes in the order of the"
            " checkpoint's labels, --classes a,b,c"
        )
    return names


@click.command("import", epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click_options(ImportOptions)
def import_(file: Path, **values: Any) -> None:
    """Import an ADM checkpoint (OpenAI's or the RealNet authors') as a model folder.

    A guidance classifier, told by its attention pooling, becomes a folder for --guidance of run
    and preview. Every weight must fit; only a model's class embedding is made anew where the number
    of classes differs. No code of a checkpoint is ever run.
    """
    options: ImportOptions = taken(ImportOptions, values)
    names = _class_names(options.dataset, options.classes)
    from sia_gen.diffusion.importing import import_adm

    folder = import_adm(
        file,
        options.out,
        dataset=options.dataset,
        classes=names,
        resolution=options.resolution,
        head_channels=options.head_channels,
        seed=options.seed,
    )
    click.echo(str(folder))
