"""`sia-gen import`: a public ADM checkpoint as a model folder, or as a guiding classifier."""

from __future__ import annotations

from pathlib import Path

import click

from sia_gen.core.errors import UserError

EPILOG = """\b
Examples:
  sia-gen import 256x256_diffusion.pt --dataset textures --out runs/adm-init
  sia-gen import bottle_cable.pt --dataset mine --classes bottle,cable --out runs/imported
  sia-gen import classifier.pt --dataset mine --classes bottle,cable --out runs/classifier
"""


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
@click.option("--dataset", required=True, help="Name of the dataset the classes belong to.")
@click.option("--classes", help="Category names by label; default: those of the manifest.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New model folder.")
@click.option(
    "--resolution",
    type=click.IntRange(8),
    default=256,
    show_default=True,
    metavar="N",
    help="Side of the checkpoint's images in pixels.",
)
@click.option(
    "--head-channels",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="N",
    help="Channels of an attention head.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of a renewed embedding.")
def import_checkpoint(
    file: Path,
    dataset: str,
    classes: str | None,
    out: Path,
    resolution: int,
    head_channels: int,
    seed: int,
) -> None:
    """Import an ADM checkpoint (OpenAI's or the RealNet authors') as a model folder.

    A guidance classifier, told by its attention pooling, becomes a folder for --guidance of run
    and preview. Every weight must fit; only a model's class embedding is made anew where the number
    of classes differs. No code of a checkpoint is ever run.
    """
    names = _class_names(dataset, classes)
    from sia_gen.diffusion.importing import import_adm

    folder = import_adm(
        file,
        out,
        dataset=dataset,
        classes=names,
        resolution=resolution,
        head_channels=head_channels,
        seed=seed,
    )
    click.echo(str(folder))
