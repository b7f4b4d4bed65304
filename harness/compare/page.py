"""A comparison as text and as one HTML page with the images that flip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from harness import metrics
from harness.board.page import data_uri, page_environment
from harness.board.tables import aligned
from harness.compare.paired import Comparison, Difference, Flip, over_categories
from harness.measure import bootstrap
from harness.measure.examples import colour_range, find_image, strip_of
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, read_image
from sia_gen.core.pixels.ranges import checked
from sia_gen.core.store.files import write_bytes
from sia_gen.core.text import printable
from sia_gen.core.version import __version__


def _name(metric: str) -> str:
    column = metrics.columns("image", "pixel")[metric]
    return ", ".join(filter(None, (column.metric.title, column.detail)))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _shown(d: Difference) -> dict[str, Any]:
    return {
        "name": d.metric,
        "a": f"{100 * d.a:.2f}",
        "b": f"{100 * d.b:.2f}",
        "value": f"{100 * d.value:+.2f}",
        "low": f"{100 * d.low:+.2f}",
        "high": f"{100 * d.high:+.2f}",
        "p": _p(d.p),
        "clear": d.clear,
    }


def _table(differences: list[Difference]) -> list[str]:
    heads = ["metric", "A", "B", "B - A", "95 % low", "95 % high", "p", ""]
    lines = []
    for d in differences:
        shown = _shown(d)
        values = [shown[k] for k in ("name", "a", "b", "value", "low", "high", "p")]
        lines.append([*values, "differ" if d.clear else ""])
    return aligned(heads, lines)


def _counts(c: Comparison) -> tuple[int, int]:
    return sum(f.right == "a" for f in c.flips), sum(f.right == "b" for f in c.flips)


def as_text(found: list[Comparison], notes: Iterable[str], limit: int = 10) -> str:
    """Returns comparisons for a terminal; of the flipped images the first `limit` are named."""
    parts = [f"A: {printable(found[0].a.name)}", f"B: {printable(found[0].b.name)}", ""]
    for c in found:
        parts += [f"{printable(c.category)}, {c.images} images", *_table(c.differences)]
        parts += [f"note: {name}: {reason}" for name, reason in c.undefined.items()]
        only_a, only_b = _counts(c)
        parts.append(f"images that flip: {only_a} only A judges rightly, {only_b} only B"
                     f" (p {_p(c.p_flips)})")  # fmt: skip
        for f in c.flips[:limit]:
            parts.append(f"  only {f.right.upper()}: {printable(f.path)} ({printable(f.defect)})")
        if len(c.flips) > limit:
            parts.append(f"  and {len(c.flips) - limit} more")
        parts.append("")
    if len(found) > 1:
        parts += ["mean over categories", *_table(over_categories(found)), ""]
    parts += [f"note: {printable(text)}" for text in notes]
    parts.append(f"Shares times 100; intervals and p from {bootstrap.REPLICATES} draws of the same"
                 " images for both.")  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def _picture(c: Comparison, flip: Flip, roots: list[Path]) -> str:
    file = find_image(flip.path, [*roots, c.a.folder])
    image: Array8 | None = None
    if file is not None:
        try:
            value_range = checked(c.a.scores.run.get("value_range"))
            image = read_image(file, value_range=value_range)
        except UserError:
            image = None  # shown as a gray tile, as the leaderboard does
    maps = [
        (np.asarray(side.scores.maps_NHW[flip.index]), colour_range(side.scores.maps_NHW))
        for side in (c.a, c.b)
    ]
    mask = np.asarray(c.a.scores.masks_NHW[flip.index]) > 0
    return data_uri(strip_of(image, mask, maps), "image/jpeg")


def _category(c: Comparison, roots: list[Path], each: int) -> dict[str, Any]:
    only_a, only_b = _counts(c)
    chosen = [f for side in "ab" for f in [x for x in c.flips if x.right == side][:each]]
    return {
        "category": c.category,
        "images": c.images,
        "differences": [_shown(d) | {"name": _name(d.metric)} for d in c.differences],
        "only_a": only_a,
        "only_b": only_b,
        "flips_p": _p(c.p_flips) if c.p_flips < 0.001 else f"= {_p(c.p_flips)}",
        "flips": [
            {
                "uri": _picture(c, f, roots),
                "path": f.path,
                "short": "/".join(PurePosixPath(f.path).parts[-2:]),
                "defect": f.defect,
                "right": f.right.upper(),
                "share_a": f"{f.share_a:.0%}",
                "share_b": f"{f.share_b:.0%}",
            }
            for f in chosen
        ],
    }


def write(
    path: Path, found: list[Comparison], notes: Iterable[str], roots: list[Path], each: int
) -> None:
    """Publishes the page; of every direction the `each` images with the largest change in rank."""
    if path.is_dir():
        raise UserError(f"--html {path} is a folder: give a file name such as {path}/compare.html")
    page = (
        page_environment()
        .get_template("compare.html")
        .render(
            a=found[0].a.name,
            b=found[0].b.name,
            replicates=bootstrap.REPLICATES,
            categories=[_category(c, roots, each) for c in found],
            mean=[_shown(d) | {"name": _name(d.metric)} for d in over_categories(found)],
            notes=list(notes),
            version=__version__,
        )
    )
    write_bytes(path, page.encode())
