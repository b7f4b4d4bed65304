"""A look at one image or mask file: its content's hash, its pixels, and what is odd about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sia_gen.core.data.category import Category, ExampleImage
from sia_gen.core.data.problems import Problem, error, note
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.decoding import decoding, open_image
from sia_gen.core.pixels.images import ORIENTATION, read_size
from sia_gen.core.pixels.masks import MaskFile, read_mask_file
from sia_gen.core.pixels.ranges import is_wide
from sia_gen.core.provenance import sha256_file
from sia_gen.core.text import shown

USUAL_MODES = ("RGB", "L")
NEARLY_ALL = 0.9  # share of an image above which a mask is told


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one image file turned out to be; `grey_levels` counts up to three."""

    path: Path
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    wide: bool = False  # more than 8 bits a channel
    grey_levels: int = 3
    problems: tuple[Problem, ...] = ()

    @property
    def like_a_mask(self) -> bool:
        """Whether the file holds one or two values, as masks do and photographs do not."""
        return self.sha256 != "" and self.grey_levels < 3


def _levels(pixels: np.ndarray) -> int:
    """Returns how many colours an image has: 1, 2, or 3 for more."""
    flat = pixels.reshape(-1, pixels.shape[-1])
    rest = flat[(flat != flat[0]).any(axis=1)]
    if not len(rest):
        return 1
    return 2 if (rest == rest[0]).all() else 3


def look_at_image(category: Category, path: Path) -> Look:
    """Returns what an image file is, read as every command reads it."""
    file, problems = shown(path), []
    try:
        digest = sha256_file(path)
        pixels = category.read_image(path)
        size = read_size(path)
        with decoding(path), open_image(path, header_only=True) as image:
            wide = is_wide(image)
            if image.mode not in USUAL_MODES and not wide:
                problems.append(note("mode", file, f"mode {image.mode}: read as 8-bit RGB"))
            if image.getexif().get(ORIENTATION, 1) != 1:
                detail = "its camera says that it is to be turned: it is"
                problems.append(note("rotation", file, detail))
            wanted = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "TIFF": (".tif",)}
            kind = wanted.get(str(image.format), (f".{str(image.format).lower()}",))
            if not path.suffix.lower().startswith(kind):
                detail = f"is {image.format} by its content: read as such"
                problems.append(note("extension", file, detail))
    except (UserError, OSError) as fault:
        detail = str(fault).removeprefix(f"{path} ")
        return Look(path=path, problems=(error("unreadable", file, shown(detail)),))
    if not path.name.isprintable() or "\\x" in file:
        detail = "a name with control characters or bytes that are no UTF-8"
        problems.append(note("name", file, detail))
    return Look(
        path=path,
        sha256=digest,
        size=size,
        wide=wide,
        grey_levels=_levels(pixels),
        problems=tuple(problems),
    )


@dataclass(frozen=True, kw_only=True)
class MaskLook:
    """What the masks of one anomalous image turned out to be; `share` of the image, or None."""

    example: ExampleImage
    share: float | None = None
    problems: tuple[Problem, ...] = ()


def _turned(path: Path) -> bool:
    with open_image(path, header_only=True) as image:
        return bool(image.getexif().get(ORIENTATION, 1) != 1)


def _values_note(path: Path, found: MaskFile) -> Problem | None:
    said = {
        "classes": "what is above 0 counts",
        "scattered": "values in between (JPEG, soft edges): more than half of the maximum counts",
        "alpha": "a shape on a transparent ground: what is opaque counts",
    }.get(found.rule)
    if said is None:
        return None
    return note("mask-values", shown(path), f"{found.levels} values, {said}")


def look_at_masks(example: ExampleImage) -> MaskLook:
    """Returns what is odd about the masks of an anomalous image, and how much they cover."""
    if not example.masks:
        detail = "an anomalous image without a mask: left out of pixel metrics"
        return MaskLook(example=example, problems=(note("no-mask", shown(example.path), detail),))
    problems: list[Problem] = []
    last = example.masks[0]
    try:
        for last in example.masks:
            found = _values_note(last, read_mask_file(last))
            problems += [found] if found else []
        if _turned(example.path) and not _turned(example.masks[0]):
            detail = (
                f"its image {shown(example.path.name)} is turned as its camera says, the mask"
                " carries no such mark: it is taken as drawn on the upright image"
            )
            problems.append(note("rotation", shown(example.masks[0]), detail))
        last = example.masks[0]
        mask = example.read_mask()
    except (UserError, OSError) as fault:
        kind = "mask-size" if " pixels, its image " in str(fault) else "unreadable"
        file = next((m for m in example.masks if str(m) in str(fault)), last)
        detail = str(fault).removeprefix("mask ").removeprefix(f"{file} ")
        return MaskLook(example=example, problems=(error(kind, shown(file), shown(detail)),))
    name = shown(example.masks[0])
    if mask is None:
        detail = f"an empty mask of the anomalous image {shown(example.path.name)}: left out of"
        problems.append(note("empty-mask", name, f"{detail} pixel metrics"))
        return MaskLook(example=example, share=0.0, problems=tuple(problems))
    share = float(mask.mean())
    if share == 1:
        detail = "the mask covers its whole image: no pixel is left as normal; inverted, or wrong?"
        problems.append(error("full-mask", name, detail))
    elif share > NEARLY_ALL:
        detail = f"the mask covers {share:.0%} of its image: inverted?"
        problems.append(note("large-mask", name, detail))
    return MaskLook(example=example, share=share, problems=tuple(problems))
