"""The normal images that pairs are made from: what a specification knows of them, and whether a
worker finds the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sia_gen.core.data.category import Category, Dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.foreground import rule_for
from sia_gen.core.pixels.ranges import checked
from sia_gen.core.provenance import hash_options, sha256_file


def hash_files(paths: Sequence[Path], root: Path) -> str:
    """Returns the hash of files' contents and of their names below a folder."""
    return hash_options([[os.path.relpath(p, root), sha256_file(p)] for p in paths])


def normal_image_facts(category: Category) -> dict[str, str]:
    """Returns hashes of the normal images and of the masks of their foreground, with its rule."""
    facts = {
        "normal_images_sha256": hash_files(category.train, category.root),
        "foreground": category.foreground,
        "foreground_sha256": "",
    }
    if category.foreground.startswith("masks "):
        masks = Path(category.foreground.removeprefix("masks "))
        files = [p for p in sorted(masks.iterdir()) if p.is_file()]
        facts |= {"foreground": "masks", "foreground_sha256": hash_files(files, masks)}
    return facts


def with_foreground(category: Category, given: str) -> Category:
    """Returns a category with the foreground that was asked for in place of its own."""
    rule = rule_for(given, category.name) if given else category.foreground
    return replace(category, foreground=rule)


def range_facts(category: Category) -> dict[str, list[float]]:
    """Returns the range that files of more than 8 bits are read with, where there are such."""
    return {"value_range": list(category.value_range)} if category.value_range else {}


def as_planned(spec: Any, dataset: Dataset, foreground: str) -> Category:
    """Returns the category of a specification, read as the specification says."""
    category = with_foreground(dataset.one(spec.key), foreground)
    return replace(category, given_range=checked(spec.value_range))


def require_unchanged(spec: Any, facts: Mapping[str, str]) -> None:
    """Raises UserError where hashes found here are not those of the specification."""
    changed = [name for name, value in facts.items() if getattr(spec, name) != value]
    if changed:
        message = f"{spec.key}: {', '.join(changed)} differ here from what the run was planned"
        raise UserError(f"{message} with: the files were changed, or are others on this node")
