"""Where a synthetic anomaly may be placed: the part, not the ground it lies on.

A rule is `whole`, `auto`, or `otsu|triangle` with a side, a channel and sizes of the closing and
opening squares, e.g. `otsu dark gray close=6 open=6` (the RealNet authors' rules in these words).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sia_gen.core.errors import UserError
from sia_gen.core.images import Array8, Mask

_CHANNELS = {"red": 0, "green": 1, "blue": 2}


def to_gray(image_HWC: Array8) -> Array8:
    """Returns luma (ITU-R 601), uint8 (H, W)."""
    weights = np.array([0.299, 0.587, 0.114])
    return np.rint(image_HWC @ weights).astype(np.uint8)


def otsu(gray: Array8) -> int:
    """Returns Otsu's threshold: values above it are the bright side. 0..255."""
    counts = np.bincount(gray.ravel(), minlength=256).astype(np.float64)
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
    """Returns the triangle method's threshold: farthest from the line peak to far tail. 0..255."""
    counts = np.bincount(gray.ravel(), minlength=256).astype(np.float64)
    used = np.flatnonzero(counts)
    low, high, peak = int(used[0]), int(used[-1]), int(counts.argmax())
    if low == high:
        return low
    flipped = peak - low < high - peak  # the longer tail is to the right
    line: npt.NDArray[np.float64] = counts[::-1] if flipped else counts
    start, top = (255 - high, 255 - peak) if flipped else (low, peak)
    x = np.arange(start, top + 1)
    rise, run = line[top] - line[start], max(top - start, 1)
    distance = rise * (x - start) - run * (line[x] - line[start])
    threshold = int(x[distance.argmax()])
    return 255 - threshold if flipped else threshold


def _auto(image_HWC: Array8) -> Mask:
    gray = to_gray(image_HWC)
    bright = gray > otsu(gray)
    inner, outer = gray[bright], gray[~bright]
    whole = np.ones_like(bright)
    if inner.size == 0 or outer.size == 0:
        return whole
    within = (inner.var() * inner.size + outer.var() * outer.size) / gray.size
    separation = 1.0 - within / max(float(gray.var()), 1e-9)
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    share = float(border.mean())
    # A part on a ground splits the histogram clearly and leaves one side alone at the border.
    if separation < 0.7 or 0.15 < share < 0.85:
        return whole
    mask = ~bright if share >= 0.85 else bright
    mask = _morphology(mask, close=6, opened=6)
    return mask if mask.mean() > 0.02 else whole


def _morphology(mask: Mask, close: int, opened: int) -> Mask:
    if close:
        pad = np.pad(mask, close, mode="edge")
        mask = ndimage.binary_closing(pad, np.ones((close, close)))[close:-close, close:-close]
    if opened:
        pad = np.pad(mask, opened, mode="edge")
        mask = ndimage.binary_opening(pad, np.ones((opened, opened)))[
            opened:-opened, opened:-opened
        ]
    return mask


def estimate(image_HWC: Array8, rule: str) -> Mask:
    """Returns the foreground of an image as bool (H, W) by a rule; UserError for a bad rule."""
    if rule == "whole":
        return np.ones(image_HWC.shape[:2], dtype=np.bool_)
    if rule == "auto":
        return _auto(image_HWC)
    words = rule.split()
    try:
        method, side, channel = words[:3]
        sizes = {name: int(size) for name, size in (w.split("=") for w in words[3:])}
        threshold = {"otsu": otsu, "triangle": triangle}[method]
        gray = to_gray(image_HWC) if channel == "gray" else image_HWC[..., _CHANNELS[channel]]
        bright = {"bright": True, "dark": False}[side]
    except (ValueError, KeyError) as error:
        message = (
            f"foreground rule {rule!r} is not whole, auto or like 'otsu dark gray close=6 open=6'"
        )
        raise UserError(message) from error
    mask = gray > threshold(gray)
    return _morphology(mask if bright else ~mask, sizes.get("close", 0), sizes.get("open", 0))
