"""The words of a dataset: its categories, their normal images, their test images with masks."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.pixels.images import Array8, Mask, read_image, read_size
from sia_gen.core.pixels.masks import fit_mask, read_mask
from sia_gen.core.pixels.ranges import Measured, ValueRange, any_wide, checked, measure

GOOD = "good"
Kind = Literal["texture", "object", "unknown"]
KINDS = ("texture", "object", "unknown")


@dataclass(frozen=True, kw_only=True)
class ExampleImage:
    """One labelled image: its defect type ("good" for none) and its mask file, if it has one."""

    path: Path
    defect: str
    mask: Path | None
    more_masks: tuple[Path, ...] = ()  # of the same image: MVTec LOCO has one for each defect

    @property
    def anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect != GOOD

    @property
    def masks(self) -> tuple[Path, ...]:
        """The image's mask files; the defect is their union."""
        return () if self.mask is None else (self.mask, *self.more_masks)

    def read_mask(self, size: int | None = None) -> Mask | None:
        """Returns the mask as bool (H, W), or None where there is none or an empty one.

        Such an image tells nothing of where its defect is: pixel metrics leave it out. A mask of
        another size than its image is refused, for nobody knows how it lies on the image.
        """
        if not self.masks:
            return None
        of_image = read_size(self.path)
        whole: Mask = np.zeros(of_image[::-1], dtype=np.bool_)
        for path in self.masks:
            of_mask = read_size(path)
            if of_image != of_mask:
                message = (
                    f"mask {path} is {of_mask[0]} x {of_mask[1]} pixels, its image {self.path}"
                    f" {of_image[0]} x {of_image[1]}: replace the mask, or remove it"
                )
                raise UserError(message)
            whole |= read_mask(path)
        if not whole.any():
            return None
        mask = whole if size is None else fit_mask(whole, size, size)
        return mask if mask.any() else None


@dataclass(frozen=True, kw_only=True)
class Category:
    """One kind of part or surface: its normal training images and its test images.

    `train_anomalous` holds what a dataset labels as defective in its training part: no method
    here trains on it, and no test looks at it.
    """

    dataset: str
    name: str
    root: Path
    train: tuple[Path, ...]
    test: tuple[ExampleImage, ...]
    kind: Kind = "unknown"
    foreground: str = "auto"
    class_index: int | None = None
    train_anomalous: tuple[ExampleImage, ...] = ()
    given_range: ValueRange | None = None  # what means black and white in files of over 8 bits

    @cached_property
    def measured_range(self) -> Measured | None:
        """What the normal images of more than 8 bits hold, or None where they have 8 bits."""
        return measure(self.train)

    @cached_property
    def value_range(self) -> ValueRange | None:
        """The one range that all its images are read with: given, measured, or None for 8 bits.

        UserError for a range that is given for files of 8 bits.
        """
        if self.given_range is None:
            return self.measured_range.value_range if self.measured_range else None
        if not any_wide(self.train):
            low, high = self.given_range
            raise UserError(
                f"--range {low:g} {high:g} is for files of more than 8 bits, and {self.key} has"
                " none: leave it out"
            )
        return self.given_range

    def range_note(self) -> str | None:
        """Returns what a user should know of how files of more than 8 bits are read, or None."""
        if self.value_range is None:
            return None
        low, high = self.value_range
        if self.given_range is not None:
            return f"{self.key}: read at the given range {low:g} to {high:g}"
        measured = self.measured_range
        assert measured is not None  # otherwise there were no range
        text = (
            f"{self.key}: values {measured.used_low:g} to {measured.used_high:g} in"
            f" {measured.files} normal images, read at {low:g} to {high:g}"
        )
        if not measured.narrow:
            return text
        return (
            f"warning: {text}, far below the file type's 0 to {measured.full:g}: give --range LOW"
            " HIGH, the values that mean black and white"
        )

    def read_image(self, path: Path, size: int | None = None) -> Array8:
        """Returns one of its images as uint8 RGB (H, W, 3), read with the category's range."""
        return read_image(path, size, self.value_range)

    @property
    def key(self) -> str:
        """The category's full name, dataset/category: seeds and records use it."""
        return f"{self.dataset}/{self.name}"


def as_recorded(
    categories: Iterable[Category], ranges: Mapping[str, Sequence[float]]
) -> tuple[Category, ...]:
    """Returns categories whose files of more than 8 bits are read with the ranges that a record
    names, by key: what synthetic images were made from. A range that is given stays."""
    return tuple(
        replace(c, given_range=checked(ranges[c.key]))
        if c.given_range is None and c.key in ranges and any_wide(c.train)
        else c
        for c in categories
    )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named set of categories on disk, or several of them under one root.

    `origin` is the text that opens it again, from any working folder.
    """

    name: str
    root: Path
    categories: tuple[Category, ...]
    layout: str = "mvtec"
    origin: str = ""
    usual: tuple[Category, ...] = ()  # what `all` means in a set; empty: every category
    members: tuple[Path, ...] = ()  # the roots of a set's datasets

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders (or lists) that hold the data, in which nothing may be written."""
        return self.members or (self.root,)

    def select(self, patterns: str) -> tuple[Category, ...]:
        """Returns the categories that match: `all`, names and globs, separated by commas.

        A pattern matches the category's name or its full name (`brick`, `b*`, `textures/*`),
        whatever the case of its letters. In a set of datasets `all` is SIA's 36 categories as far
        as they are there; `*` is truly everything.
        """
        chosen: list[Category] = []
        for pattern in (part.strip() for part in patterns.split(",")):
            found = self._matching(pattern)
            if not found:
                known = [c.name for c in self.categories]
                if "/" in pattern:
                    known = [c.key for c in self.categories]
                message = f"category {pattern!r} is not in {self.root}.{near_names(pattern, known)}"
                raise UserError(message)
            chosen += [c for c in found if c not in chosen]
        return tuple(chosen)

    def _matching(self, pattern: str) -> tuple[Category, ...]:
        if pattern == "all":
            return self.usual or self.categories
        for fold in (False, True):
            wanted = pattern.casefold() if fold else pattern
            found = [
                c
                for c in self.categories
                for name in (c.name, c.key)
                if fnmatch.fnmatchcase(name.casefold() if fold else name, wanted)
            ]
            if found:
                return tuple(dict.fromkeys(found))
        return ()

    def one(self, name: str) -> Category:
        """Returns exactly one category, or raises UserError."""
        chosen = self.select(name)
        if len(chosen) != 1:
            message = f"{name!r} matches {len(chosen)} categories of {self.root}; name one"
            raise UserError(message)
        return chosen[0]
