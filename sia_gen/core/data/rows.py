"""The lines of a list of images, whatever it is written as.

CSV         with a header, or without one where each line holds an image's name; separated by
            commas, semicolons, tabs, bars, or blanks
JSON        one object a line, an array of objects, or {"train": ..., "test": ...} with arrays, or
            with arrays by category (meta.json of AnomalyCLIP and its kin)

COCO's annotations are named and refused: their polygons are no masks here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import is_image_name
from sia_gen.core.store.documents import parse_json, read_limited

NAMES = {
    "image": ("image", "filename", "path", "image_path", "img_path", "file", "file_name", "img"),
    "label": ("label", "anomaly", "label_name"),
    "mask": ("mask", "maskname", "mask_path"),
    "split": ("split",),
    "category": ("category", "clsname", "cls_name", "object", "class"),
    "defect": ("defect", "defect_type", "specie_name", "anomaly_class"),
}
NORMAL = {"0", "0.0", "false", "normal", "good", "ok"}
ANOMALOUS = {"1", "1.0", "true", "anomaly", "anomalous", "abnormal", "defective", "bad", "ko"}
SPLITS = {"train", "test"}
SEPARATORS = ",;\t|"
WORKS = (
    "what works is a CSV with the columns image,label,mask,split, or one JSON object a line:"
    ' {"image": "a.png", "label": 0, "split": "train"}'
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a list, still in the list's own words."""

    where: str  # FILE:LINE
    values: dict[str, str]


def _known(raw: dict[str, Any], where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    folded = {str(key).strip().casefold(): value for key, value in raw.items() if key is not None}
    for word, names in NAMES.items():
        for name in names:
            value = folded.get(name)
            if value is not None and str(value).strip():
                values[word] = str(value).strip()
                break
    if "image" not in values:
        named = ", ".join(NAMES["image"])
        message = f"{where} names no image: expected one of {named}, found {', '.join(folded)}"
        raise UserError(message)
    return values


def _text_of(path: Path) -> str:
    try:
        content = read_limited(path)
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # "Unicode text" of spreadsheets
            return content.decode("utf-16")
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable UTF-8 text: {error}") from error


def read_rows(path: Path) -> list[Row]:
    """Returns the lines of a list; UserError with the place of the first fault."""
    text = _text_of(path)
    is_json = path.suffix.lower() in {".json", ".jsonl"}
    rows = list(_json_rows(path, text) if is_json else _csv_rows(path, text))
    if not rows:
        raise UserError(f"{path} is a file that lists no image")
    return rows


def _separator(line: str) -> str | None:
    """Returns what separates the cells of a line, outside quotes; None for blanks or one cell."""
    plain = "".join(part for part in line.split('"')[::2])
    best = max(SEPARATORS, key=plain.count)
    return best if plain.count(best) else None


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = _separator(first)
    cells = first.split(separator) if separator else first.split()
    if any(is_image_name(Path(cell.strip().strip('"'))) for cell in cells):
        yield from _headless_rows(path, text, separator)
        return
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, strict=True, delimiter=separator or ",")
    try:
        for raw in reader:
            where = f"{path}:{reader.line_num}"
            if None in raw:
                raise UserError(f"{where} has more columns than the header")
            if any(value is None for value in raw.values()):
                raise UserError(f"{where} has fewer columns than the header")
            yield Row(where=where, values=_known(raw, where))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num} is no line of a CSV file: {error}") from error


def _headless_rows(path: Path, text: str, separator: str | None) -> Iterator[Row]:
    """Yields the lines of a list without a header: columns are told by what they hold."""
    cells: list[tuple[int, list[str]]] = []
    if separator is None:
        for number, plain in enumerate(text.splitlines(), start=1):
            if plain.strip():
                cells.append((number, plain.split()))
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        cells = [(reader.line_num, [c.strip() for c in line]) for line in reader if any(line)]
    width = len(cells[0][1])
    for number, line in cells:
        if len(line) != width:
            raise UserError(f"{path}:{number} has {len(line)} columns, the first line {width}")
    columns = {i: [line[i] for _, line in cells] for i in range(width)}
    pictures = [i for i, c in columns.items() if any(is_image_name(Path(v)) for v in c if v)]
    words: dict[str, int] = {"image": pictures[0]}
    if len(pictures) > 1:
        words["mask"] = pictures[1]
    for i, column in columns.items():
        if i in pictures:
            continue
        held = {value.casefold() for value in column}
        if held <= SPLITS and "split" not in words:
            words["split"] = i
        elif "label" not in words and all(_is_label(value) for value in held):
            words["label"] = i
    for number, line in cells:
        values = {word: line[i] for word, i in words.items() if line[i]}
        where = f"{path}:{number}"
        if "image" not in values:
            raise UserError(f"{where} names no image")
        yield Row(where=where, values=values)


def _is_label(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return value in NORMAL | ANOMALOUS


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    try:
        document = parse_json(text)
    except ValueError:
        document = None  # one object a line, or a fault that is told with its line
    if isinstance(document, list):
        yield from _objects(path, document, "", {})
        return
    if isinstance(document, dict):
        parts = {str(key).casefold(): value for key, value in document.items()}
        if "images" in parts and "annotations" in parts:
            raise UserError(f"{path} holds COCO annotations, which are no list of images: {WORKS}")
        if SPLITS & parts.keys():
            for split in sorted(SPLITS & parts.keys(), reverse=True):
                yield from _part(path, split, parts[split])
            return
        if not any(name in parts for name in NAMES["image"]):
            found = ", ".join(list(parts)[:8])
            raise UserError(f"{path} is one JSON object with {found}: no list is known so; {WORKS}")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            raw = parse_json(line)
        except ValueError as error:
            raise UserError(f"{where} is not a JSON object: {error}") from error
        if not isinstance(raw, dict):
            raise UserError(f"{where} is not a JSON object but {type(raw).__name__}")
        yield Row(where=where, values=_known(raw, where))


def _part(path: Path, split: str, value: Any) -> Iterator[Row]:
    if isinstance(value, dict):
        for category, own in value.items():
            given = {"split": split, "category": str(category)}
            yield from _objects(path, own, f"{split}.{category}", given)
    else:
        yield from _objects(path, value, split, {"split": split})


def _objects(path: Path, found: Any, place: str, given: dict[str, str]) -> Iterator[Row]:
    if not isinstance(found, list):
        raise UserError(f"{path}: {place} is no array but {type(found).__name__}: {WORKS}")
    for number, raw in enumerate(found):
        where = f"{path}:{place}[{number}]"
        if not isinstance(raw, dict):
            raise UserError(f"{where} is not a JSON object but {type(raw).__name__}: {WORKS}")
        yield Row(where=where, values=given | _known(raw, where))
