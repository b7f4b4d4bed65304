"""A prediction's table, written as it goes: what it lists is done, whatever happened since.

predictions.jsonl   one line an image, appended batch by batch: the truth, boxes included
predictions.csv     the same without boxes, for spreadsheets; begun anew at each start
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

from detector.inference.outputs import TABLE
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options
from sia_gen.core.store.documents import parse_json
from sia_gen.core.store.files import write_bytes
from sia_gen.core.text import CsvWriter

LINES = "predictions.jsonl"
COLUMNS = ("path", "score", "threshold", "decision", "width", "height", "regions", "area")


class Ledger:
    """The rows of a folder of predictions, in the order in which they were made.

    A row of an earlier start is taken as long as image, checkpoint and options are the same.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Reads what an earlier run left; a line that was cut by a kill does not count."""
        self._lines, self._table = folder / LINES, folder / TABLE
        self._identity = hash_options(identity)[:16]
        self._kept: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        if self._lines.is_file():
            self._read()
        write_bytes(self._table, (",".join(COLUMNS) + "\n").encode())

    def _read(self) -> None:
        content = self._lines.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = parse_json(line)
                if row["identity"] == self._identity:
                    self._kept[row["path"]] = row
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{self._lines}, line {number} is no prediction: remove the file, or give"
                    " another --out"
                ) from error
        if len(whole) < len(content):
            os.truncate(self._lines, len(whole))

    def kept(self, path: str, sha256: str) -> dict[str, Any] | None:
        """Returns the row that an earlier start made of the same image, or None."""
        row = self._kept.get(path)
        return row if row is not None and row["sha256"] == sha256 else None

    @staticmethod
    def _append(path: Path, content: bytes) -> None:
        try:
            with path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows to both files; on return they are on the disk."""
        if not rows:
            return
        rows = [{**row, "identity": self._identity} for row in rows]
        fresh = [row for row in rows if self.kept(row["path"], row["sha256"]) is None]
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in fresh)
        self._append(self._lines, text.encode())
        table = io.StringIO()
        writer = CsvWriter(table, COLUMNS)
        for row in rows:
            writer.row(_flat(row).values())
        heads, _, lines = table.getvalue().partition("\n")
        del heads  # they stand at the file's beginning
        self._append(self._table, lines.encode())
        self.rows += rows

    def coco(self) -> dict[str, Any]:
        """Returns the regions as COCO's detection format: images, annotations, one category."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, row in enumerate(self.rows, start=1):
            images.append(
                {"id": number, "file_name": row["path"], "width": row["width"],
                 "height": row["height"]}
            )  # fmt: skip
            for x, y, width, height, area, score in row["boxes"]:
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": 1,
                     "bbox": [x, y, width, height], "area": area, "score": score, "iscrowd": 0}
                )  # fmt: skip
        categories = [{"id": 1, "name": "anomaly"}]
        return {"images": images, "annotations": annotations, "categories": categories}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found = {**row, "regions": len(row["boxes"])}
    return {name: found[name] for name in COLUMNS}
