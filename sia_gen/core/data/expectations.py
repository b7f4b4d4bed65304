"""What a category's files should be as a whole: enough, alike, photographs, sensible masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.data.category import Category, ExampleImage
from sia_gen.core.data.looks import Look, MaskLook
from sia_gen.core.data.problems import Problem, error, note
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.foreground import estimate
from sia_gen.core.pixels.ranges import spread
from sia_gen.core.text import shown

FEW, HARDLY = 50, 20  # normal images below which results vary from run to run, or mean little
USUAL_SIDE = 256  # pixels a side at which detectors look by default
REDUCED = 4  # times: a larger reduction loses small defects
LONG = 2  # times: a longer image is squeezed to a square
LOOKED, LOOK_SIDE = 24, 128  # automatic foregrounds that are compared, and their side in pixels
UNEVEN = 2.0  # times: foregrounds that differ more in area
# What people append to an image's name for its mask.
MASK_NAME = re.compile(r"[._ -](mask|label|gt|seg|segmentation|ground_?truth|anno\w*)$", re.I)


def counts_of(category: Category) -> dict[str, int]:
    """Returns how many images a category has in each part."""
    return {
        "train_good": len(category.train),
        "train_anomalous": len(category.train_anomalous),
        "test_good": sum(not e.anomalous for e in category.test),
        "test_anomalous": sum(e.anomalous for e in category.test),
    }


def counts(category: Category, facts: dict[str, Any]) -> Iterator[Problem]:
    """Yields what is wrong with the numbers of images, also against the published ones."""
    found, root = counts_of(category), shown(category.root)
    expected = {name: facts[name] for name in found if name in facts}
    for name, count in expected.items():
        if found[name] != count:
            yield error("count", root, f"{name} {found[name]}, the published dataset has {count}")
    of_type = Counter(e.defect for e in category.test if e.anomalous)
    for defect, count in facts.get("defects", {}).items():
        if of_type[defect] != count and found["test_anomalous"] != facts.get("test_anomalous"):
            detail = f"defect {defect} {of_type[defect]}, the published dataset has {count}"
            yield note("count", root, detail)
    normal = len(category.train)
    if normal < 2:
        detail = "one normal image shows no variation: a detector needs at least 2"
        yield error("few", root, detail)
    elif normal < FEW and not facts:
        much = "results will mean little" if normal < HARDLY else "results will vary"
        detail = f"{normal} normal images: {much}; a few hundred are better"
        yield note("few", root, detail)
    for name, kind in (("test_anomalous", "anomalous"), ("test_good", "normal")):
        if category.test and not found[name]:
            detail = f"no {kind} test image: a detector can be trained, but not measured"
            yield note("few", root, f"{detail} (AUROC and AP need both kinds)")


def duplicates(category: Category, looks: dict[Path, Look]) -> Iterator[Problem]:
    """Yields files that are there twice, above all in training and test."""
    trained: dict[str, Path] = {}
    for path in category.train:
        digest = looks[path].sha256
        if digest and digest in trained:
            yield note("duplicate", shown(path), f"the same file as {shown(trained[digest])}")
        trained.setdefault(digest, path)
    tested: dict[str, ExampleImage] = {}
    for example in category.test:
        digest, file = looks[example.path].sha256, shown(example.path)
        if not digest:
            continue
        if digest in trained:
            detail = (
                f"the same file as the training image {shown(trained[digest])}: the test has been"
                " seen in training"
            )
            yield error("leak", file, detail)
        twin = tested.setdefault(digest, example)
        if twin is not example:
            make = error if twin.anomalous != example.anomalous else note
            detail = f"the same file as {shown(twin.path)} ({twin.defect}, here {example.defect})"
            yield make("duplicate", file, detail)


def sizes(category: Category, looks: dict[Path, Look]) -> Iterator[Problem]:
    """Yields what resizing to one square does to the images."""
    found, root = Counter(look.size for look in looks.values() if look.sha256), shown(category.root)
    if not found:
        return
    (width, height), count = found.most_common(1)[0]
    if len(found) > 1:
        detail = (
            f"{len(found)} different sizes (most often {width} x {height}, {count} times): all are"
            " resized to one square"
        )
        yield note("sizes", root, detail)
    if max(width, height) > REDUCED * USUAL_SIDE:
        times = max(width, height) / USUAL_SIDE
        detail = (
            f"images of {width} x {height} pixels: at {USUAL_SIDE} x {USUAL_SIDE} a defect of"
            f" {times:.0f} pixels is one; give a larger --resolution, or cut tiles"
        )
        yield note("reduction", root, detail)
    if max(width, height) >= LONG * min(width, height):
        detail = f"images of {width} x {height} pixels are squeezed to a square: cut them up"
        yield note("squeezed", root, detail)


def depth(category: Category, looks: dict[Path, Look]) -> Iterator[Problem]:
    """Yields how files of more than 8 bits are read: an error where it had to be guessed."""
    read = [look for look in looks.values() if look.sha256]
    wide = [look.path for look in read if look.wide]
    if 0 < len(wide) < len(read):
        few = wide if 2 * len(wide) <= len(read) else [look.path for look in read if not look.wide]
        what = "more than 8 bits" if few is wide else "8 bits"
        for path in few:
            detail = f"{what}, unlike most of the category: one depth is expected"
            yield error("depth", shown(path), detail)
    text = category.range_note()
    if text is not None:
        make = error if text.startswith("warning: ") else note
        yield make("range", shown(category.root), text.removeprefix("warning: "))


def _belief(path: Path, looks: dict[Path, Look], stems: dict[tuple[Path, str], list[Path]]) -> str:
    owner = MASK_NAME.sub("", path.stem)
    others = [p for p in stems[path.parent, path.stem] if p != path]
    if owner != path.stem:
        others += stems.get((path.parent, owner), [])
    other = next((p for p in others if not looks[p].like_a_mask), None)
    return f" (the mask of {shown(other.name)}, by its name)" if other else ""


def photographs(looks: dict[Path, Look]) -> Iterator[Problem]:
    """Yields files among the images that are no photographs: masks, blank frames, doubled stems."""
    stems: dict[tuple[Path, str], list[Path]] = {}
    for path in looks:
        stems.setdefault((path.parent, path.stem), []).append(path)
    masks = [look for look in looks.values() if look.like_a_mask]
    read = [look for look in looks.values() if look.sha256]
    make = error if 0 < len(masks) < len(read) else note
    for look in masks:
        belief = _belief(look.path, looks, stems)
        if look.grey_levels == 1:
            detail = f"every pixel has one colour: no photograph, an empty mask or frame{belief}"
            yield make("constant", shown(look.path), detail)
        else:
            detail = f"black and white only: a mask, no photograph{belief}"
            yield make("like-a-mask", shown(look.path), detail)
    odd = {look.path for look in masks}
    for paths in stems.values():
        if len(paths) > 1 and not odd & set(paths):
            names = ", ".join(shown(p.name) for p in paths[1:])
            yield note(
                "same-stem", shown(paths[0]), f"the same stem as {names}: one picture twice?"
            )


def masks(category: Category, found: Sequence[MaskLook]) -> Iterator[Problem]:
    """Yields what is wrong with all masks of a category together."""
    shares = [look.share for look in found if look.share is not None]
    root = shown(category.root)
    if len(shares) > 1 and not any(shares):
        detail = f"all {len(shares)} masks are empty: pixel metrics have nothing to measure"
        yield error("empty-masks", root, detail)
    if len(shares) > 1 and float(np.median(shares)) > 0.5:
        detail = (
            f"masks cover {float(np.median(shares)):.0%} of their images in the middle: white means"
            " defective; inverted?"
        )
        yield error("large-masks", root, detail)


def foregrounds(category: Category) -> Iterator[Problem]:
    """Yields whether the automatic foreground differs from image to image."""
    if category.foreground != "auto":
        return
    shares = []
    for path in spread(category.train, LOOKED):
        try:
            image = category.read_image(path, LOOK_SIDE)
        except UserError:
            continue
        shares.append(float(estimate(image, "auto").mean()))
    whole = sum(share == 1 for share in shares)
    parts = [share for share in shares if share < 1]
    detail = ""
    if whole and parts:
        detail = f"finds a part in {len(parts)} of {len(shares)} images and takes {whole} whole"
    elif len(parts) > 1 and max(parts) > UNEVEN * min(parts):
        detail = f"covers {min(parts):.0%} to {max(parts):.0%} of the images"
    if detail:
        advice = "look at it with `sia-gen preview --foregrounds`, give --foreground"
        yield note("foreground", shown(category.root), f"auto {detail}: {advice}")
