"""Runs and models on a Hub: what is pushed, what is refused, and reading them by their address."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_hub import Hub

from sia_gen.care.push import push
from sia_gen.cli.main import group
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import locate
from sia_gen.core.store.shards import ShardReader, find_shards
from sia_gen.diffusion.model_folder import SHIPPED, describe
from sia_gen.runs.folder import check_output
from sia_gen.streams.addresses import open_file, open_tars

REPOSITORY = "me/mini-sia"


def test_a_run_is_pushed_with_its_card_and_read_by_its_address(hub: Hub, finished: Path) -> None:
    assert push(finished, REPOSITORY).endswith(f"/datasets/{REPOSITORY}")
    assert hub.made[0]["visibility"] == "private"
    there = hub.files[f"datasets/{REPOSITORY}"]
    assert {"run.json", "README.md", "index.json", "croissant.json"} <= set(there)
    assert not {name for name in there if name.startswith(("lock", "progress", "claims"))}
    address = f"hf://datasets/{REPOSITORY}"
    copied = find_shards(local_folder(locate(address)), "mini/brick")
    here = find_shards(finished, "mini/brick")
    assert [tar.name for tar in copied] == [tar.name for tar in here]
    assert (ShardReader(copied).image(3) == ShardReader(here).image(3)).all()
    streamed = open_tars(address, "mini/brick")
    assert streamed.sha256 == open_tars(str(finished), "mini/brick").sha256
    with open_file(streamed.urls[0]) as file:
        assert file.read() == here[0].read_bytes()


def test_what_is_not_finished_or_not_ours_is_not_pushed(
    hub: Hub, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "shards/mini/gravel/gravel-00002.json").unlink()
    with pytest.raises(IncompleteError, match="8 of 9 shards"):
        push(out, REPOSITORY)
    with pytest.raises(UserError, match="neither a run"):
        push(out / "shards", REPOSITORY)
    hub.refuse = 401
    with pytest.raises(UserError, match=r"was not pushed to me/mini-sia: .*HF_TOKEN"):
        push(finished, REPOSITORY)
    assert not hub.files


def test_a_model_gets_a_card_and_is_used_by_its_address(hub: Hub, tmp_path: Path) -> None:
    own = tmp_path / "model"
    shutil.copytree(SHIPPED / "textures-64", own)
    told = CliRunner().invoke(group, ["push", str(own), "me/textures", "--public", "--json"])
    assert json.loads(told.stdout)["address"] == f"{hub.url}/me/textures", told.exception
    assert hub.made[0]["visibility"] == "public"
    card = hub.files["me/textures"]["README.md"].decode()
    assert "hf://me/textures" in card and "Its health check passed" in card
    facts = describe(local_folder(locate("hf://me/textures")))
    assert facts.checkpoint_sha256 == describe(own).checkpoint_sha256
    assert json.loads(hub.files["me/textures"]["sia_gen.json"])["resolution"] == 64


@pytest.mark.usefixtures("hub")
def test_an_address_on_the_hub_is_no_output_and_a_wrong_one_is_told() -> None:
    with pytest.raises(UserError, match=r"can only be read: .*sia-gen push"):
        check_output("hf://datasets/me/other")
    with pytest.raises(UserError, match=r"hf://me/nothing cannot be read: .*Not Found"):
        local_folder(locate("hf://me/nothing"))
    with pytest.raises(UserError, match="can only be read"):
        (locate("hf://me/nothing") / "x").replace_content(b"")  # type: ignore[union-attr]
