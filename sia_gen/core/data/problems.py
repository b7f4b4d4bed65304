"""Problems of a dataset: what each says, and many of one kind in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDED = 3  # more files than this with one kind of problem are told in one line


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about a file: `weight` is error or note, `kind` one word."""

    weight: str
    kind: str
    file: str
    detail: str


def error(kind: str, file: str, detail: str) -> Problem:
    """Returns what makes results wrong or a run fail."""
    return Problem(weight="error", kind=kind, file=file, detail=detail)


def note(kind: str, file: str, detail: str) -> Problem:
    """Returns what is handled, and better known."""
    return Problem(weight="note", kind=kind, file=file, detail=detail)


def lines(problems: Iterable[Problem]) -> Iterator[str]:
    """Yields the problems as lines, errors first; many of one kind as a count with examples."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.weight, problem.kind), []).append(problem)
    for (weight, kind), found in sorted(groups.items(), key=lambda item: item[0][0] != "error"):
        if len(found) <= FOLDED:
            for problem in found:
                yield f"{weight}: {kind}: {problem.file}: {problem.detail}"
            continue
        folders = {str(Path(problem.file).parent) for problem in found}
        place = f"{folders.pop()}: " if len(folders) == 1 else ""
        names = ", ".join(Path(p.file).name if place else p.file for p in found[:FOLDED])
        yield f"{weight}: {kind}: {place}{len(found)} files, such as {names}: {found[0].detail}"
