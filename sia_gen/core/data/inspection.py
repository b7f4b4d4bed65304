"""Inspection of a dataset on disk: what was recognised, how much is there, what is wrong with it.

An `error` makes results wrong or a run fail; a `note` is handled, and better known.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.data import expectations
from sia_gen.core.data.category import Category, Dataset
from sia_gen.core.data.expectations import counts_of
from sia_gen.core.data.looks import Look, look_at_image, look_at_masks
from sia_gen.core.data.manifest import load_manifest
from sia_gen.core.data.problems import Problem, note
from sia_gen.core.pixels.images import is_image_name
from sia_gen.core.store.walk import walk
from sia_gen.core.text import shown

__all__ = ["Problem", "Report", "inspect", "inspect_category", "shown"]

TEXTS = (".txt", ".md", ".csv", ".json", ".yaml", ".yml", ".pdf")


@dataclass(frozen=True, kw_only=True)
class Report:
    """A dataset's name, layout and licence, its categories' counts, and all problems."""

    dataset: str
    layout: str
    root: str
    about: dict[str, dict[str, str]]
    categories: tuple[dict[str, Any], ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> int:
        """The number of problems that are errors."""
        return sum(problem.weight == "error" for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as a JSON object."""
        return {"ok": self.errors == 0, **asdict(self)}


def _used(category: Category) -> set[Path]:
    examples = (*category.test, *category.train_anomalous)
    masks = {mask for e in examples for mask in e.masks}
    return {*category.train, *(e.path for e in examples), *masks}


def _stray(path: Path, category: Category, layout: str) -> tuple[str, str] | None:
    """Returns (kind, detail) of a file that nothing reads; None where that is as it should be."""
    relative = path.relative_to(category.root)
    place = relative.parts[0] if len(relative.parts) > 1 else ""
    if place == "foreground" or (not place and path.suffix.lower() in TEXTS):
        return None
    if layout == "ksdd2":
        if path.stem.endswith("_GT") and is_image_name(path):
            return None  # empty masks of normal images, which every one of them has
        return "stray", "a copy or no image: it is not read"
    if relative.parts[-2:-1] == ("xyz",) or path.name == "defects_config.json":
        return "unused", "MVTec's depth maps and saturation areas: no method here uses them"
    if place in {"validation", "test_private", "test_private_mixed", "calibration"}:
        return "unused", "a part of MVTec's newer datasets that nothing here reads"
    if relative.parts[-2:-1] == ("gt",) and is_image_name(path):
        return None  # empty masks of normal images, which every one of them has
    masks = "ground_truth" in relative.parts[:2] or relative.parts[:2] == ("Data", "Masks")
    if masks and is_image_name(path):
        return "mask-without-image", "no anomalous image has this name: it is not read"
    if is_image_name(path):
        return "stray", "an image outside the folders that are read"
    return "stray", "no image by its name: it is not read"


def _strays(category: Category, layout: str) -> Iterator[Problem]:
    if layout == "list":
        return  # the list says what belongs to it
    used = _used(category)
    groups: dict[tuple[Path, str], list[tuple[Path, str]]] = {}
    # Hidden files are of the system, and read by nobody.
    for path in walk(category.root, lambda p: p.name[0] != "." and p not in used):
        found = _stray(path, category, layout)
        if found:
            groups.setdefault((path.parent, found[0]), []).append((path, found[1]))
    for (_, kind), files in sorted(groups.items()):
        for path, detail in sorted(files):
            yield note(kind, shown(path), detail)


def inspect_category(
    category: Category, layout: str, on_image: Callable[[], None] = lambda: None
) -> list[Problem]:
    """Returns everything that is wrong with one category; reads every file of it."""
    manifest = load_manifest(category.dataset)
    facts = manifest.categories.get(category.name, {}) if manifest else {}
    problems = list(expectations.counts(category, facts))
    examples = (*category.test, *category.train_anomalous)
    paths = [*category.train, *(e.path for e in examples)]
    looks: dict[Path, Look] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for look in pool.map(functools.partial(look_at_image, category), paths):
            looks[look.path] = look
            problems += look.problems
            on_image()
        masks = list(pool.map(look_at_masks, [e for e in examples if e.anomalous]))
    problems += [problem for look in masks for problem in look.problems]
    problems += expectations.masks(category, masks)
    problems += expectations.depth(category, looks)
    problems += expectations.photographs(looks)
    problems += expectations.duplicates(category, looks)
    problems += expectations.sizes(category, looks)
    problems += expectations.foregrounds(category)
    problems += _strays(category, layout)
    return problems


def inspect(
    dataset: Dataset,
    categories: tuple[Category, ...],
    on_image: Callable[[int, int], None] = lambda _a, _b: None,
) -> Report:
    """Returns the report on these categories of a dataset; calls on_image(read, total)."""
    total = sum(sum(counts_of(c).values()) for c in categories)
    read = 0

    def step() -> None:
        nonlocal read
        read += 1
        on_image(read, total)

    problems: list[Problem] = []
    for category in categories:
        layout = dataset.layout if dataset.layout != "set" else _layout_in_set(category)
        problems += inspect_category(category, layout, step)
    about = {}
    for name in dict.fromkeys(c.dataset for c in categories):
        manifest = load_manifest(name)
        if manifest:
            about[name] = {
                "title": manifest.title,
                "licence": manifest.licence,
                "homepage": manifest.homepage,
                "citation": manifest.citation,
            }
            here = {c.name for c in dataset.categories if c.dataset == name}
            gone = [c for c in manifest.categories if c not in here]
            if gone:
                detail = f"categories of {name} that are not here: {', '.join(gone)}"
                file = shown(dataset.root)
                problems.append(note("absent", file, detail))
    return Report(
        dataset=dataset.name,
        layout=dataset.layout,
        root=shown(dataset.root),
        about=about,
        categories=tuple(
            {
                "category": c.key,
                "kind": c.kind,
                "foreground": c.foreground,
                **counts_of(c),
                "published": c.class_index is not None,
            }
            for c in categories
        ),
        problems=tuple(sorted(problems, key=lambda p: p.weight != "error")),
    )


def _layout_in_set(category: Category) -> str:
    manifest = load_manifest(category.dataset)
    return manifest.layout if manifest else "mvtec"
