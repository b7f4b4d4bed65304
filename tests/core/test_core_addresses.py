"""Addresses: refused where a command takes folders only, and the same ones for every --data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from detector.cli import main as detector_cli
from harness.cli import main as harness_cli
from sia_gen.cli import main as sia_gen_cli
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.core.store import hub
from sia_gen.core.store.files import write_bytes
from sia_gen.core.store.objects import locate, require_local

S3 = "s3://bucket/x"
COMMANDS = [
    "detector train --data textures --source noise --out s3://bucket/x",
    "detector predict photos --model det --out s3://bucket/x",
    "detector predict s3://bucket/x --model det --out p",
    "detector score --run s3://bucket/x --data textures",
    "detector explain det --data textures --out s3://bucket/x",
    "detector export det --out s3://bucket/x",
    "sia-gen push s3://bucket/x me/x",
    "sia-gen train --data textures --preset tiny-16 --resolution 16 --out s3://bucket/x",
    "sia-gen preview --foregrounds --out s3://bucket/x.png",
    "sia-gen preview --out s3://bucket/x.png",
    "sia-gen import weights.pt --dataset textures --out s3://bucket/x",
    "harness baseline --data textures --out s3://bucket/x",
    "harness evaluate runs --out s3://bucket/x",
    "harness submit maps --data textures --category brick --method m --out s3://bucket/x",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_address_where_only_folders_go_is_refused_before_anything_is_made(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *arguments = command.split()
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    mains = {"detector": detector_cli, "sia-gen": sia_gen_cli, "harness": harness_cli}
    with pytest.raises(SystemExit) as stopped:
        mains[name].main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "s3://bucket/x" in said and "folders only" in said, said
    assert list(tmp_path.iterdir()) == []


def test_paths_that_only_look_alike_are_local(tmp_path: Path) -> None:
    for text in ("a:b", "c/d:/e", str(tmp_path), "C:/x"):
        assert require_local(Path(text), "--out") == Path(text)
    for text in (S3, Path(S3), "gs://a/b", Path("https://host/x"), "file:///tmp/x"):
        with pytest.raises(UserError, match=r"--out .*folders only"):
            require_local(text, "--out")


def test_every_data_takes_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIA_GEN_CACHE", str(tmp_path / "cache"))
    picture = encode_png(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for i in range(2):
        write_bytes(locate(f"memory://data/parts/bolt/train/good/{i}.png"), picture)
    opened = open_dataset("memory://data/parts")
    assert [c.key for c in opened.categories] == ["parts/bolt"]
    named = open_dataset("mine=memory://data/parts")
    assert named.one("bolt").key == "mine/bolt"
    local = tmp_path / "here" / "nut" / "train" / "good"
    local.mkdir(parents=True)
    (local / "0.png").write_bytes(picture)
    both = open_dataset(f"memory://data/parts,{tmp_path / 'here'}")
    assert [c.key for c in both.categories] == ["parts/bolt", "here/nut"]
    assert open_dataset(f"file://{tmp_path / 'here'}").one("nut").train == (local / "0.png",)
    with pytest.raises(UserError, match="scheme 'https' is refused"):
        open_dataset("https://host/parts")


def test_a_hub_address_stays_in_its_repository() -> None:
    for key in ("a/b/../../x", "datasets/a/b/../c"):
        with pytest.raises(UserError, match=r"hf://.*refused"):
            hub.snapshot(key)
