"""Kinds of content, one module each, found by listing this folder: generate/content.py says what
such a module has."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from sia_gen.core import plugins
from sia_gen.core.errors import UserError
from sia_gen.core.store.objects import Location
from sia_gen.generate.content import Content
from sia_gen.runs import folder
from sia_gen.runs.spec import Shard


def names() -> list[str]:
    """Returns the names of the kinds of content, those of their modules."""
    return plugins.names(sys.modules[__name__])


def load(name: str) -> Content:
    """Returns a kind of content by its module's name; UserError lists the known ones."""
    return cast(Content, plugins.load(sys.modules[__name__], name))


def find(kind: str) -> Content:
    """Returns a kind of content by what run.json calls it; UserError for an unknown one."""
    found = {content.KIND: content for content in map(load, names())}
    if kind not in found:
        raise UserError(f"{folder.NAME}: kind {kind!r} is none of {', '.join(found)}")
    return found[kind]


def planned(run: Location) -> Sequence[Shard]:
    """Returns all shards that a run folder is to hold."""
    document = folder.read(run)
    return find(document["kind"]).planned(document)
