"""Text from outside -- file names, metadata, messages of libraries -- where people will see it.

Nothing in it may steer a terminal (`printable`), a web page or a card (`markdown`), or a
spreadsheet (`CsvWriter`).
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

# What spreadsheets take for a formula, also after apostrophes, and in full width.
_FORMULA = re.compile("'*[=+\\-@\\t\\r\\n\uff1d\uff0b\uff0d\uff20]")


def printable(text: object, *, lines: bool = False) -> str:
    """Returns text with control characters, escape sequences, marks that turn the direction of
    writing and bytes that are no UTF-8 written out; line breaks stay where `lines` is set.
    """
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in str(text)
    )


def markdown(text: object) -> str:
    """Returns text for one line or cell of Markdown: no HTML, link, emphasis or column in it."""
    safe = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", safe)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def csv_cell(value: Any) -> Any:
    """Returns a cell's value: text that a spreadsheet would run gets an apostrophe before it."""
    if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value):
        return "'" + value
    return value


class CsvWriter:
    """Writes rows of CSV to an open file; line ends are \\n."""

    def __init__(self, file: TextIO, heads: Sequence[str]) -> None:
        self._file, self._line = file, io.StringIO(newline="")
        # With this line end the csv module quotes both of its characters wherever they occur.
        self._writer = csv.writer(self._line, lineterminator="\r\n")
        self.row(heads)

    def row(self, values: Iterable[Any]) -> None:
        """Writes one row."""
        self._writer.writerow([csv_cell(value) for value in values])
        self._file.write(self._line.getvalue().removesuffix("\r\n") + "\n")
        self._line.seek(0)
        self._line.truncate()


def shown(text: Path | str) -> str:
    """Returns a path or text in printable characters and one line.

    Bytes that are no UTF-8, line breaks and control characters, terminal sequences among them, are
    escaped as Python writes them.
    """
    decoded = os.fsencode(text).decode("utf-8", "backslashreplace")
    if decoded.isprintable():
        return decoded
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)
