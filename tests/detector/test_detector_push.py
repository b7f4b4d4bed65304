"""A checkpoint on a Hub: pushed with a card, used by its address."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_hub import Hub

from detector import Detector
from detector.cli.main import group
from detector.cli.options import Checkpoint
from detector.inference.push import push
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError


def test_a_pushed_detector_answers_as_before(
    hub: Hub, trained: Path, stripes: Category, tmp_path: Path
) -> None:
    folder = tmp_path / "stripes"
    shutil.copytree(trained / "line" / "stripes", folder)
    told = CliRunner().invoke(group, ["push", str(folder), "me/stripes"])
    assert told.exit_code == 0 and f"{hub.url}/me/stripes" in told.stderr, told.exception
    there = hub.files["me/stripes"]
    assert set(there) == {"README.md", "checkpoint.json", "checkpoint.safetensors"}
    assert "hf://me/stripes" in there["README.md"].decode()
    image = stripes.test[0].path
    wanted = Detector.load(folder, device="cpu").predict(image)
    assert Detector.load("hf://me/stripes", device="cpu").predict(image).score == wanted.score
    fetched = Checkpoint().convert("hf://me/stripes", None, None)
    assert (fetched / "checkpoint.safetensors").is_file()
    with pytest.raises(UserError, match="holds no checkpoint"):
        push(tmp_path, "me/nothing")
