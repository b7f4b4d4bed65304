"""What `detector predict` writes: a table that grows image by image, and names of pictures.

A prediction that was stopped goes on: each row is kept in a journal with its image's SHA-256, and
is taken from there as long as image, checkpoint and options are the same.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options
from sia_gen.core.store.files import write_bytes
from sia_gen.core.text import shown

TABLE = "predictions.csv"
DOCUMENT = "predictions.json"
JOURNAL = ".predictions.jsonl"
COLUMNS = ("path", "score", "threshold", "decision")
PICTURES = ("overlays", "steps", "maps", "masks")  # folders of pictures beside the table
NAME_BYTES, PATH_BYTES = 255, 4000  # what file systems and the system's calls take


def is_output(folder: Path) -> bool:
    """Returns whether a folder holds the pictures of an earlier prediction."""
    return folder.name in PICTURES and (folder.parent / TABLE).is_file()


def picture_path(folder: Path, name: str, suffix: str = ".png") -> Path:
    """Returns where the picture of an image lies: the image's whole name, and a suffix.

    A name that would be too long is cut and ends in a hash of the whole, so that it stays one
    image's own.
    """
    whole = folder / f"{name}{suffix}"
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    if len(os.fsencode(whole)) > PATH_BYTES:
        return folder / f"{digest}{suffix}"
    if len(os.fsencode(whole.name)) <= NAME_BYTES:
        return whole
    room = NAME_BYTES - len(os.fsencode(f"-{digest}{suffix}"))
    kept = os.fsencode(whole.name)[:room].decode("utf-8", "ignore")
    return whole.with_name(f"{kept}-{digest}{suffix}")


def write_picture(folder: Path, name: str, content: bytes) -> Path:
    """Writes the picture of an image and returns its path.

    Where the file system does not take the image's name, the picture is named by the name's hash.
    """
    path = picture_path(folder, name)
    try:
        write_bytes(path, content)
    except UserError:
        path = folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}.png"
        write_bytes(path, content)
    return path


class Table:
    """The CSV of a prediction, written as it goes; finished rows of an earlier start are kept."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.out, self._identity = out, hash_options(identity)
        self._kept = self._read_journal()
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._journal = (out / JOURNAL).open("a", encoding="utf-8")
            self._file = (out / TABLE).open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._writer.writeheader()
        self._file.flush()

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()
        self._journal.close()

    def _read_journal(self) -> dict[tuple[str, str], dict[str, Any]]:
        try:
            lines = (self.out / JOURNAL).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        kept = {}
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["identity"] == self._identity and set(COLUMNS) <= set(entry["row"]):
                    kept[entry["row"]["path"], entry["sha256"]] = dict(entry["row"])
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written when the process ended
        return kept

    def kept(self, name: str, sha256: str) -> dict[str, Any] | None:
        """Returns the row that an earlier start made of the same image, or None."""
        return self._kept.get((shown(name), sha256))

    def add(self, row: dict[str, Any], sha256: str) -> None:
        """Writes one row; its path is made printable."""
        row = {**row, "path": shown(row["path"])}
        self._writer.writerow({name: row[name] for name in COLUMNS})
        self._file.flush()
        if (row["path"], sha256) not in self._kept:
            entry = {"identity": self._identity, "sha256": sha256, "row": row}
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()
