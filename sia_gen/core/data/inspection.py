"""Inspection of a dataset on disk: what was recognised, how much is there, what is wrong with it.

An `error` makes results wrong or a run fail; a `note` is handled, and better known.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.data.category import Category, Dataset, ExampleImage
from sia_gen.core.data.manifest import load_manifest
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.decoding import decoding, open_limited
from sia_gen.core.pixels.images import ORIENTATION, is_image_name, read_image, read_size
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.walk import walk
from sia_gen.core.text import shown

USUAL_MODES = ("RGB", "L")
FOLDED = 5  # more strays in one folder than this are told in one line
TEXTS = (".txt", ".md", ".csv", ".json", ".yaml", ".yml", ".pdf")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about a file: `weight` is error or note, `kind` one word."""

    weight: str
    kind: str
    file: str
    detail: str


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


def counts_of(category: Category) -> dict[str, int]:
    """Returns how many images a category has in each part."""
    return {
        "train_good": len(category.train),
        "train_anomalous": len(category.train_anomalous),
        "test_good": sum(not e.anomalous for e in category.test),
        "test_anomalous": sum(e.anomalous for e in category.test),
    }


def _count_problems(category: Category, facts: dict[str, Any]) -> Iterator[Problem]:
    found = counts_of(category)
    expected = {name: facts[name] for name in found if name in facts}
    for name, count in expected.items():
        if found[name] != count:
            detail = f"{name} {found[name]}, the published dataset has {count}"
            yield Problem(weight="error", kind="count", file=shown(category.root), detail=detail)
    of_type = Counter(e.defect for e in category.test if e.anomalous)
    for defect, count in facts.get("defects", {}).items():
        if of_type[defect] != count and found["test_anomalous"] != facts.get("test_anomalous"):
            detail = f"defect {defect} {of_type[defect]}, the published dataset has {count}"
            yield Problem(weight="note", kind="count", file=shown(category.root), detail=detail)
    if len(category.train) < 2:
        detail = "one normal image shows no variation: a detector needs at least 2"
        yield Problem(weight="error", kind="few", file=shown(category.root), detail=detail)
    if category.test and not found["test_anomalous"]:
        detail = "no anomalous test image: a detector can be trained, but not measured"
        yield Problem(weight="note", kind="few", file=shown(category.root), detail=detail)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What one image file turned out to be."""

    path: Path
    sha256: str
    size: tuple[int, int]
    problems: tuple[Problem, ...]


def _look_at_image(path: Path) -> _Look:
    file, problems = shown(path), []
    try:
        digest = sha256_file(path)
        read_image(path)
        size = read_size(path)
        with decoding(path), open_limited(path, path) as image:
            if image.mode not in USUAL_MODES:
                detail = f"mode {image.mode}: read as 8-bit RGB"
                problems.append(Problem(weight="note", kind="mode", file=file, detail=detail))
            if image.getexif().get(ORIENTATION, 1) != 1:
                detail = "its camera says that it is to be turned: it is"
                problems.append(Problem(weight="note", kind="rotation", file=file, detail=detail))
            wanted = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "TIFF": (".tif",)}
            kind = wanted.get(str(image.format), (f".{str(image.format).lower()}",))
            if not path.suffix.lower().startswith(kind):
                detail = f"is {image.format} by its content: read as such"
                problems.append(Problem(weight="note", kind="extension", file=file, detail=detail))
    except (UserError, OSError) as error:
        detail = str(error).removeprefix(f"{path} ")
        problem = Problem(weight="error", kind="unreadable", file=file, detail=detail)
        return _Look(path=path, sha256="", size=(0, 0), problems=(problem,))
    if not path.name.isprintable() or "\\x" in file:
        detail = "a name with control characters or bytes that are no UTF-8"
        problems.append(Problem(weight="note", kind="name", file=file, detail=detail))
    return _Look(path=path, sha256=digest, size=size, problems=tuple(problems))


def _mask_problem(example: ExampleImage) -> Problem | None:
    if example.mask is None:
        detail = "an anomalous image without a mask: left out of pixel metrics"
        return Problem(weight="note", kind="no-mask", file=shown(example.path), detail=detail)
    file = shown(example.mask)
    try:
        mask = example.read_mask()
        with decoding(example.mask), open_limited(example.mask, example.mask) as image:
            values = np.unique(np.asarray(image)).tolist()
            mode = image.mode
    except (UserError, OSError) as error:
        kind = "mask-size" if " pixels, its image " in str(error) else "unreadable"
        detail = str(error).removeprefix(f"mask {example.mask} ").removeprefix(f"{example.mask} ")
        return Problem(weight="error", kind=kind, file=file, detail=detail)
    if mask is None:
        detail = f"an empty mask of the anomalous image {example.path.name}: left out of pixel"
        return Problem(weight="note", kind="empty-mask", file=file, detail=f"{detail} metrics")
    if mode not in {"L", "1"} or not set(values) <= {0, 1, 255}:
        some = ", ".join(str(v) for v in values[:5])
        detail = f"mode {mode}, values {some}{', ...' if len(values) > 5 else ''}: above 0 counts"
        return Problem(weight="note", kind="mask-values", file=file, detail=detail)
    return None


def _used(category: Category) -> set[Path]:
    examples = (*category.test, *category.train_anomalous)
    masks = {e.mask for e in examples if e.mask}
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
    masks = place == "ground_truth" or relative.parts[:2] == ("Data", "Masks")
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
    for (folder_path, kind), files in sorted(groups.items()):
        if len(files) > FOLDED:
            names_text = ", ".join(shown(p.name) for p, _ in sorted(files)[:3])
            detail = f"{len(files)} files, such as {names_text}: {files[0][1]}"
            yield Problem(weight="note", kind=kind, file=shown(folder_path), detail=detail)
            continue
        for path, detail in sorted(files):
            yield Problem(weight="note", kind=kind, file=shown(path), detail=detail)


def _duplicates(category: Category, looks: dict[Path, _Look]) -> Iterator[Problem]:
    trained: dict[str, Path] = {}
    for path in category.train:
        digest = looks[path].sha256
        if digest and digest in trained:
            detail = f"the same file as {shown(trained[digest])}"
            yield Problem(weight="note", kind="duplicate", file=shown(path), detail=detail)
        trained.setdefault(digest, path)
    tested: dict[str, ExampleImage] = {}
    for example in category.test:
        digest = looks[example.path].sha256
        if not digest:
            continue
        if digest in trained:
            detail = (
                f"the same file as the training image {shown(trained[digest])}: the test has been"
                " seen in training"
            )
            yield Problem(weight="error", kind="leak", file=shown(example.path), detail=detail)
        twin = tested.setdefault(digest, example)
        if twin is not example:
            weight = "error" if twin.anomalous != example.anomalous else "note"
            detail = f"the same file as {shown(twin.path)} ({twin.defect}, here {example.defect})"
            yield Problem(weight=weight, kind="duplicate", file=shown(example.path), detail=detail)


def _sizes(category: Category, looks: dict[Path, _Look]) -> Iterator[Problem]:
    sizes = Counter(look.size for look in looks.values() if look.sha256)
    if len(sizes) > 1:
        (width, height), count = sizes.most_common(1)[0]
        detail = (
            f"{len(sizes)} different sizes (most often {width} x {height}, {count} times): all are"
            " resized to one square"
        )
        yield Problem(weight="note", kind="sizes", file=shown(category.root), detail=detail)


def inspect_category(
    category: Category, layout: str, on_image: Callable[[], None] = lambda: None
) -> list[Problem]:
    """Returns everything that is wrong with one category; reads every file of it."""
    manifest = load_manifest(category.dataset)
    facts = manifest.categories.get(category.name, {}) if manifest else {}
    problems = list(_count_problems(category, facts))
    examples = (*category.test, *category.train_anomalous)
    paths = [*category.train, *(e.path for e in examples)]
    looks: dict[Path, _Look] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for look in pool.map(_look_at_image, paths):
            looks[look.path] = look
            problems += look.problems
            on_image()
        found = pool.map(_mask_problem, [e for e in examples if e.anomalous])
        problems += [problem for problem in found if problem]
    problems += _duplicates(category, looks)
    problems += _sizes(category, looks)
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
                problems.append(Problem(weight="note", kind="absent", file=file, detail=detail))
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
