"""Run folders that somebody else wrote: what they say deletes and writes nothing outside them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gen_support as support
import numpy as np
import pytest

from sia_gen.care.repair import repair
from sia_gen.care.verify import verify
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.generate.contents import pairs
from sia_gen.generate.options import ExecutionOptions, PackOptions, SynthesisOptions
from sia_gen.generate.run import run

LOCAL = ExecutionOptions(executor="local")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A packed folder of one category, `brick`."""
    source = tmp_path / "source" / "brick"
    source.mkdir(parents=True)
    for value in range(3):
        pixels = np.full((8, 8, 3), value, dtype=np.uint8)
        (source / f"{value}.png").write_bytes(encode_png(pixels))
    out = tmp_path / "packed"
    support.pack(PackOptions(source=str(source.parent), out=str(out)))
    return out


def _edit(path: Path, change: str, value: object) -> None:
    document = json.loads(path.read_text())
    *inner, last = change.split("/")
    place = document
    for part in inner:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    path.write_text(json.dumps(document))


def _content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("recipe/shards/0/dataset", "../../victim/shards/mini"),
        ("recipe/shards/0/category", "../brick"),
        ("recipe/shards/0/dataset", "/victim"),
        ("recipe/shards/0/files", [["../../x.png", "0"]]),
        ("recipe/shards/0/shard", "0"),
        ("source", "x" * 5000),
        ("source", "a\0b"),
    ],
)
def test_repair_of_a_packed_folder_deletes_nothing_of_another(
    tmp_path: Path, packed: Path, finished: Path, change: str, value: object
) -> None:
    victim = tmp_path / "victim"
    shutil.copytree(finished, victim)
    before = _content(victim)
    _edit(packed / "run.json", change, value)
    with pytest.raises(UserError, match=r"run\.json|specification|belongs to a run|is no folder"):
        repair(packed, LOCAL)
    assert _content(victim) == before


def test_repair_of_a_packed_folder_drops_nothing_before_it_compares(packed: Path) -> None:
    (packed.parent / "source" / "brick" / "new.png").write_bytes(
        encode_png(np.zeros((8, 8, 3), dtype=np.uint8))
    )
    tar = next(packed.rglob("*.tar"))
    tar.write_bytes(b"torn")
    before = _content(packed)
    with pytest.raises(UserError, match="belongs to a run with other options or other files"):
        repair(packed, LOCAL)
    assert _content(packed) == before


def test_repair_of_a_run_deletes_nothing_of_another(tmp_path: Path, finished: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "run"
    shutil.copytree(finished, victim)
    shutil.copytree(finished, out)
    before = _content(victim)
    for change, value in (
        ("recipe/dataset", "../../victim/shards/mini"),
        ("recipe/categories", ["../../../victim/shards/mini/brick"]),
    ):
        shutil.copy(finished / "run.json", out / "run.json")
        _edit(out / "run.json", change, value)
        with pytest.raises(UserError, match="specification of a shard"):
            verify(out)
        with pytest.raises(UserError):
            repair(out, LOCAL)
    assert _content(victim) == before


def test_repair_follows_no_link_out_of_the_run(tmp_path: Path, finished: Path, mini: Path) -> None:
    out, victim = tmp_path / "run", tmp_path / "victim"
    shutil.copytree(finished, out)
    shutil.move(out / "shards", victim)
    tar = next(victim.rglob("*.tar"))
    tar.write_bytes(b"torn")
    before = _content(victim)
    (out / "shards").symlink_to(victim)
    with pytest.raises(UserError, match="by a link"):
        repair(out, LOCAL, data=str(mini))
    assert _content(victim) == before


def test_repair_of_pairs_deletes_nothing_of_another(tmp_path: Path, mini: Path) -> None:
    options = SynthesisOptions(
        method="noise", out=str(tmp_path / "pairs"), data=str(mini), per_category=2, resolution=16
    )
    run(pairs.prepare(options), LOCAL)
    victim, out = tmp_path / "victim", tmp_path / "pairs"
    shutil.copytree(out, victim)
    before = _content(victim)
    document = json.loads((out / "run.json").read_text())
    for facts in document["recipe"]["categories"].values():
        facts["dataset"] = "../../victim/shards/mini"
    (out / "run.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="specification of a shard: dataset"):
        verify(out)
    with pytest.raises(UserError):
        repair(out, LOCAL)
    assert _content(victim) == before


def test_the_card_shows_names_as_text(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>" if os.sep == "\\" else "<img src=x onerror=alert(1)>|`a`"
    source = tmp_path / "source"
    folder = source / name
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(encode_png(np.zeros((8, 8, 3), dtype=np.uint8)))
    support.pack(PackOptions(source=str(source), out=str(tmp_path / "out"), dataset="<b>[x](y)"))
    card = (tmp_path / "out" / "README.md").read_text().partition("---\n\n")[2]
    text = "\n".join(line for line in card.splitlines() if not line.startswith("      "))
    assert "<img" not in text and "<b>" not in text and "[x](" not in text
    assert r"&lt;img src=x onerror=alert(1)&gt;\|\`a\`" in text


def test_verify_prints_no_escape_sequence(tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "shards" / "mini" / "x\x1b[2J.txt").write_text("")
    code, printed, error = support.call("verify", out)
    assert code == 4
    assert "\x1b" not in printed + error
    assert r"x\x1b[2J.txt" in printed
