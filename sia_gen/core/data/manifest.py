"""Manifests: what is known of a published dataset before its files are opened.

One YAML file a dataset in manifests/datasets. A folder is recognised as a dataset by its name
(`mvtec-ad`, `BTech_Dataset_transformed`), or by holding exactly the manifest's categories.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sia_gen.core.errors import UserError

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
DATASETS = MANIFESTS / "datasets"
ENOUGH = 6  # categories by whose names alone a folder is recognised


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A published dataset: where it comes from, under which licence, and its categories' facts."""

    name: str
    title: str
    homepage: str
    licence: str
    citation: str
    layout: str
    aliases: tuple[str, ...]
    sia: bool  # one of the four datasets that SIA is made from
    categories: dict[str, dict[str, Any]]


def plain(name: str) -> str:
    """Returns a name as names are compared: lower case, words joined by hyphens."""
    return name.casefold().replace("_", "-").replace(" ", "-")


def manifest_names() -> list[str]:
    """Returns the names of all manifests, sorted."""
    return sorted(path.stem for path in DATASETS.glob("*.yaml"))


@functools.cache
def load_manifest(name: str) -> Manifest | None:
    """Returns the manifest of a dataset by its own name, or None where there is none."""
    path = DATASETS / f"{name}.yaml"
    if "/" in name or not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Manifest(
            **{**content, "aliases": tuple(content["aliases"]), "name": content["name"]}
        )
    except (TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a manifest: {error}") from error


def read_manifest(name: str) -> dict[str, dict[str, Any]]:
    """Returns a manifest's facts per category, or an empty dict for a dataset without one."""
    manifest = load_manifest(name)
    return dict(manifest.categories) if manifest else {}


def by_name(name: str) -> Manifest | None:
    """Returns the manifest that a folder's or a user's name means, or None."""
    wanted = plain(name)
    for known in manifest_names():
        manifest = load_manifest(known)
        if manifest and wanted in {known, *manifest.aliases}:
            return manifest
    return None


def recognise(folder_names: Iterable[str], categories: Iterable[str]) -> Manifest | None:
    """Returns the manifest of a folder with these names and categories, or None.

    A name counts where at least one category is the manifest's; the categories alone count where
    they are all of the manifest's, nothing else, and too many to be there by chance.
    """
    found = set(categories)
    for name in folder_names:
        manifest = by_name(name)
        if manifest and found & set(manifest.categories):
            return manifest
    for name in manifest_names():
        manifest = load_manifest(name)
        if manifest and len(found) >= ENOUGH and found == set(manifest.categories):
            return manifest
    return None
