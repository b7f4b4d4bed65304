"""Where a synthetic anomaly may be placed: the part, not the ground it lies on.

A rule is `whole`, `auto`, or `otsu|triangle` with a side, a channel and sizes of the closing and
opening squares at 256 x 256, e.g. `otsu dark gray close=6 open=6` (the RealNet authors' rules in
these words), or `masks DIR`: one mask a normal image, by the same stem.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.pixels.masks import read_mask

_CHANNELS = {"red": 0, "green": 1, "blue": 2}
RULE_SIZE = 256  # pixels a side at which the sizes of a rule are given
# What `auto` calls a clear split: a ramp has a separation of 0.75 and a valley share of 0.1.
SEPARATION = 0.7  # share of the variance that two tones explain
VALLEY_WIDTH, VALLEY_SHARE = 0.1, 0.05  # distance to the middle, in distances of the tones
EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")


def to_gray(image_HWC: Array8) -> Array8:
    """Returns luma (ITU-R 601), uint8 (H, W)."""
    return np.asarray(Image.fromarray(image_HWC).convert("L"))


def _histogram(gray: Array8) -> npt.NDArray[np.float64]:
    return np.array(Image.fromarray(gray).histogram(), dtype=np.float64)


def otsu(gray: Array8) -> int:
    """Returns Otsu's threshold: values above it are the bright side. 0..255."""
    counts = _histogram(gray)
    below = np.cumsum(counts)
    total_below = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    between = np.zeros(256)
    valid = (below > 0) & (above > 0)
    mean_below = total_below[valid] / below[valid]
    mean_above = (total_below[-1] - total_below[valid]) / above[valid]
    between[valid] = below[valid] * above[valid] * (mean_below - mean_above) ** 2
    return int(between.argmax())


def triangle(gray: Array8) -> int:
    """Returns the triangle method's threshold, as OpenCV places it. 0..255.

    It is the value next to the one that lies farthest below the line from the histogram's peak to
    the empty value beyond its longer tail.
    """
    counts = _histogram(gray)
    used = np.flatnonzero(counts)
    low, high, peak = max(int(used[0]) - 1, 0), min(int(used[-1]) + 1, 255), int(counts.argmax())
    flipped = peak - low < high - peak  # the longer tail is to the right
    line: npt.NDArray[np.float64] = counts[::-1] if flipped else counts
    start, top = (255 - high, 255 - peak) if flipped else (low, peak)
    x = np.arange(start + 1, top + 1)
    if not x.size:
        return low
    distance = line[top] * x + (start - top) * line[x]
    # Nothing lies below the line where the greatest distance is that of its end.
    best = int(distance.argmax())
    threshold = (int(x[best]) if distance[best] > line[top] * start else start) - 1
    return 255 - threshold if flipped else max(threshold, 0)


def _auto(image_HWC: Array8) -> Mask:
    """Returns the side of Otsu's threshold that touches the border less, or the whole image.

    A part on a ground splits the histogram: the two tones explain most of the variance, hardly a
    pixel lies between them, and one of them is alone at the border. A surface that only grows
    darker to one side passes the first test, but not the second.
    """
    gray = to_gray(image_HWC)
    bright = gray > otsu(gray)
    inner, outer = gray[bright], gray[~bright]
    whole = np.ones_like(bright)
    if inner.size == 0 or outer.size == 0:
        return whole
    within = (inner.var() * inner.size + outer.var() * outer.size) / gray.size
    separation = 1.0 - within / max(float(gray.var()), 1e-9)
    high, low = float(inner.mean()), float(outer.mean())
    reach = VALLEY_WIDTH * (high - low)
    valley = float((np.abs(gray - np.float32((high + low) / 2)) < reach).mean())
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    share = float(border.mean())
    if separation < SEPARATION or valley > VALLEY_SHARE or 0.15 < share < 0.85:
        return whole
    mask = ~bright if share >= 0.85 else bright
    mask = _morphology(mask, close=6, opened=6)
    return mask if mask.mean() > 0.02 else whole


def _filtered(mask: Mask, size: int, *, grow: bool, before: int) -> Mask:
    """Returns the maximum (or minimum) over a square that reaches `before` pixels up and left.

    Windows are put together from windows of half their length, so that the cost hardly depends on
    their size. The border is mirrored.
    """
    combine = np.logical_or if grow else np.logical_and
    for axis in (0, 1):
        count = mask.shape[axis]
        pads = [(0, 0), (0, 0)]
        pads[axis] = (before, size - 1 - before)
        window, length = np.pad(mask, pads, mode="symmetric"), 1
        if axis == 1:
            window = window.T
        while length < size:
            step = min(length, size - length)
            window = combine(window[: len(window) - step], window[step:])
            length += step
        mask = window[:count] if axis == 0 else np.ascontiguousarray(window[:count].T)
    return mask


def _morphology(mask: Mask, close: int, opened: int) -> Mask:
    """Returns the mask after closing and opening with squares, sizes given at 256 x 256.

    The border is mirrored, as scikit-image does, whose results these are.
    """
    scale = mask.shape[0] / RULE_SIZE
    for size, grow in ((round(close * scale), True), (round(opened * scale), False)):
        if size > 1:
            # An even square has no middle: the second filter reaches as far to one side as the
            # first to the other, so that nothing moves.
            mask = _filtered(mask, size, grow=grow, before=(size - 1) // 2)
            mask = _filtered(mask, size, grow=not grow, before=size // 2)
    return mask


def _from_folder(folder: Path, path: Path | None, size: int) -> Mask:
    if path is None:
        raise UserError(f"foreground masks of {folder} belong to image files: this image is none")
    for stem in (path.stem, f"{path.stem}_mask"):
        for extension in EXTENSIONS:
            if (folder / f"{stem}{extension}").is_file():
                return read_mask(folder / f"{stem}{extension}", size)
    message = (
        f"foreground folder {folder} has no mask for {path}: expected {path.stem}.png (or"
        " another image type)"
    )
    raise UserError(message)


def estimate(image_HWC: Array8, rule: str, path: Path | None = None) -> Mask:
    """Returns the foreground of a square image as bool (H, W) by a rule; UserError for a bad one.

    `path` is the image's file, by whose name a mask folder is searched.
    """
    if rule == "whole":
        return np.ones(image_HWC.shape[:2], dtype=np.bool_)
    if rule == "auto":
        return _auto(image_HWC)
    if rule.startswith("masks "):
        return _from_folder(Path(rule.removeprefix("masks ")), path, image_HWC.shape[0])
    method, bright, channel, sizes = parse_rule(rule)
    gray = to_gray(image_HWC) if channel == "gray" else image_HWC[..., _CHANNELS[channel]]
    mask = gray > (otsu if method == "otsu" else triangle)(gray)
    return _morphology(mask if bright else ~mask, sizes.get("close", 0), sizes.get("open", 0))


def parse_rule(rule: str) -> tuple[str, bool, str, dict[str, int]]:
    """Returns a threshold rule's method, whether its bright side counts, channel and sizes."""
    words = rule.split()
    try:
        method, side, channel = words[:3]
        sizes = {name: int(size) for name, size in (w.split("=") for w in words[3:])}
        known = method in {"otsu", "triangle"} and channel in {"gray", *_CHANNELS}
        if not known or not set(sizes) <= {"close", "open"} or min(sizes.values(), default=0) < 0:
            raise ValueError(rule)
        bright = {"bright": True, "dark": False}[side]
    except (ValueError, KeyError) as error:
        message = (
            f"foreground rule {rule!r} is not whole, auto, a folder of masks, or like 'otsu dark"
            " gray close=6 open=6'"
        )
        raise UserError(message) from error
    return method, bright, channel, sizes


def rule_for(given: str, category: str) -> str:
    """Returns the rule that a user means for one category: a rule, or a folder of masks.

    DIR/<category> is taken where it exists, so that one folder may hold the masks of several.
    """
    folder = Path(given)
    if folder.is_dir():
        own = folder / category
        return f"masks {(own if own.is_dir() else folder).resolve()}"
    if given in {"whole", "auto"} or given.startswith("masks "):
        return given
    parse_rule(given)
    return given
