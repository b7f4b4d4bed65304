"""JSON and YAML that somebody else may have written: read in bounded memory and time, or refused.

Bytes, values and depth have limits, and aliases may not unfold without end.
"""

from __future__ import annotations

import json
import os
from typing import Any

import yaml

from sia_gen.core.errors import UserError
from sia_gen.core.store.objects import Location, ObjectPath

MAX_BYTES = 256 * 2**20
MAX_VALUES = 10_000_000
MAX_YAML_BYTES = 200_000
MAX_YAML_VALUES = 100_000


class DocumentError(UserError, ValueError):
    """A document that cannot be read; a ValueError too, as json's own faults are."""


def read_limited(path: Location, limit: int = MAX_BYTES) -> bytes:
    """Returns a file's content; DocumentError where it is larger than `limit` bytes."""
    if isinstance(path, ObjectPath):
        content = path.read_bytes(limit=limit + 1)
    else:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(min(size, limit) + 1)
            if len(content) > size:  # a pipe, or a file that grows
                content += file.read(limit + 1 - len(content))
    if len(content) > limit:
        raise DocumentError(f"{path} is larger than {limit} bytes: refused")
    return content


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def parse_json(content: bytes | str, *, numbers: bool = False) -> Any:
    """Returns the value of a JSON document; DocumentError names the fault, not the file.

    With `numbers` NaN and Infinity, which are no JSON, are refused too.
    """
    comma, bracket, brace = (b",", b"[", b"{") if isinstance(content, bytes) else (",", "[", "{")
    marks = (comma, bracket, brace)
    if len(content) > MAX_VALUES and sum(map(content.count, marks)) > MAX_VALUES:  # type: ignore[arg-type]
        raise DocumentError(f"it holds more than {MAX_VALUES} values: refused")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        return json.loads(text, parse_constant=_no_number if numbers else None)
    except RecursionError as error:
        raise DocumentError("it is nested too deep: refused") from error
    except ValueError as error:
        raise DocumentError(str(error)) from error


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, and merged mappings."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuses `<<`: merges of merges double with each line."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                raise UserError(f"line {line}: `<<` (a merged mapping) is not read: write it out")
        super().flatten_mapping(node)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            line = key_node.start_mark.line + 1
            raise UserError(f"line {line}: the key {key!r} is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _check_unfolded(value: Any) -> None:
    """Raises DocumentError where aliases make a value that is larger than any recipe."""
    waiting, seen = [value], 0
    while waiting:
        inner = waiting.pop()
        seen += 1
        if seen > MAX_YAML_VALUES:
            raise DocumentError(f"it unfolds to more than {MAX_YAML_VALUES} values: refused")
        if isinstance(inner, dict):
            waiting += [*inner.keys(), *inner.values()]
        elif isinstance(inner, list | tuple | set):
            waiting += inner


def parse_yaml(text: str) -> Any:
    """Returns the value of a YAML document; DocumentError names the fault, not the file."""
    try:
        value = yaml.load(text, _Loader)
    except UserError:
        raise
    except RecursionError as error:
        raise DocumentError("it is nested too deep: refused") from error
    # Besides its own class, yaml passes on what dates, numbers and keys raise.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DocumentError(" ".join(str(error).split())) from error
    _check_unfolded(value)
    return value
