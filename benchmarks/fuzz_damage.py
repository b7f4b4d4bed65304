"""Damage to a good file: bytes that are flipped, cut or repeated, numbers and values that lie."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

BIG = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1]
HOSTILE: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 10**40, 1e308, -1e308, 0.5, "", "x", "../../x", "/etc/passwd",
    "C:\\x", "a\0b", "NUL", "\x1b[2J", "\ud800", "x" * 5000, [], {}, [[]], [None], {"": {}},
    [1] * 300,
]  # fmt: skip


def _flip(rng: random.Random, content: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        content[rng.randrange(len(content))] = rng.randrange(256)


def _number(rng: random.Random, content: bytearray) -> None:
    value, form = rng.choice(BIG), rng.choice(("<I", ">I", "<H", ">H", "<Q", ">Q"))
    size = struct.calcsize(form)
    place = rng.randrange(max(1, min(len(content), 600)))
    content[place : place + size] = struct.pack(form, value & (256**size - 1))


def _cut(rng: random.Random, content: bytearray) -> None:
    del content[rng.randrange(len(content)) :]


def _drop(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 4, 100))]


def _repeat(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content))
    part = content[start : start + rng.choice((1, 16, 512))]
    content[start:start] = part * rng.choice((1, 2, 50))


def _noise(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content))
    content[start:start] = rng.randbytes(rng.choice((1, 8, 64)))


BYTES = (_flip, _number, _cut, _drop, _repeat, _noise)


def _damage_value(rng: random.Random, value: Any) -> Any:
    """Returns a JSON value with one part replaced by something hostile, or taken away."""
    if rng.random() < 0.15 or not isinstance(value, dict | list) or not value:
        if rng.random() < 0.05:
            deep: Any = []
            for _ in range(rng.choice((50, 900))):
                deep = [deep]
            return deep
        return rng.choice(HOSTILE)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        kept = list(value)
        if rng.random() < 0.15:
            del kept[place]
        else:
            kept[place] = _damage_value(rng, value[place])
        return kept
    name = rng.choice(list(value))
    if rng.random() < 0.15:
        return {key: inner for key, inner in value.items() if key != name}
    return {**value, name: _damage_value(rng, value[name])}


def damage(rng: random.Random, path: Path, content: bytes) -> bytes:
    """Returns the content of a file with damage of one kind or several."""
    lines = path.suffix == ".jsonl"
    if path.suffix in {".json", ".jsonl"} and rng.random() < 0.8:
        if lines:
            parts = content.splitlines()
            place = rng.randrange(len(parts))
            parts[place] = json.dumps(_damage_value(rng, json.loads(parts[place]))).encode()
            return b"\n".join(parts)
        return json.dumps(_damage_value(rng, json.loads(content))).encode()
    if rng.random() < 0.01:
        return rng.choice(
            (b"", b"[" * 100_000, b'{"a":' * 100_000, b"\0" * 4096, rng.randbytes(64))
        )
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if changed:
            rng.choice(BYTES)(rng, changed)
    return bytes(changed)
