"""Text from outside (file names, lists, messages of libraries) as it is printed."""

from __future__ import annotations

import os
from pathlib import Path


def shown(text: Path | str) -> str:
    """Returns a path or text in printable characters and one line.

    Bytes that are no UTF-8, line breaks and control characters, terminal sequences among them, are
    escaped as Python writes them.
    """
    decoded = os.fsencode(text).decode("utf-8", "backslashreplace")
    if decoded.isprintable():
        return decoded
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)
