"""What a command tells on stderr: lines for people, or a JSON object a line for machines.

    {"time": "2026-01-31T12:00:00.000Z", "level": "info", "message": "...", ...}

`--log-format json` (core/flags.py) chooses the second for a whole command: what is said here, and
the logs and warnings of other libraries. More keys are the numbers of the message.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from sia_gen.core.text import printable

FORMATS = ("text", "json")

_json = False


class _Lines(logging.Formatter):
    """The records of other libraries as such lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns a record as a line of JSON; a traceback is part of its message."""
        return _line(record.levelname.lower(), super().format(record), {"logger": record.name})


def use(kind: str) -> None:
    """Chooses the form, `text` or `json`, of all that this process tells from now on."""
    global _json
    was, _json = _json, kind == "json"
    if was == _json:
        return
    logging.captureWarnings(_json)
    if _json:
        handler = logging.StreamHandler()
        handler.setFormatter(_Lines())
        logging.basicConfig(handlers=[handler], force=True)
    else:
        logging.root.handlers.clear()


def on_terminal() -> bool:
    """Returns whether a person looks on, so that bars and overwritten lines are of use."""
    return not _json and sys.stderr.isatty()


def say(text: object, **numbers: Any) -> None:
    """Tells a line, or several, at once; `numbers` are keys of the JSON form alone."""
    _tell("info", text, "", numbers)


def warn(text: object) -> None:
    """Tells what went wrong without stopping the work."""
    _tell("warning", text, "warning: ", {})


def fail(text: object, **numbers: Any) -> None:
    """Tells why a command ends."""
    _tell("error", text, "error: ", numbers)


def _tell(level: str, text: object, head: str, numbers: dict[str, Any]) -> None:
    line = _line(level, str(text), numbers) if _json else head + printable(text, lines=True)
    print(line, file=sys.stderr, flush=True)


def _line(level: str, message: str, more: dict[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": now, "level": level, "message": message, **more}, default=str)
