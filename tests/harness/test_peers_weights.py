"""Local weights where anomalib asks timm for trained networks; anomalib is not needed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import timm
import torch

from harness.peers import weights
from sia_gen.core.errors import UserError

NAME = "mobilenetv2_035"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.pt"
    torch.manual_seed(5)
    torch.save(timm.create_model(NAME, pretrained=False).state_dict(), path)
    return path


def test_a_trained_network_is_given_the_file_and_nothing_else(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    with weights.local(NAME, file, as_if="resnet18") as loaded:
        teacher = timm.create_model(NAME, pretrained=True, features_only=True, out_indices=(1, 2))
        student = timm.create_model(NAME, pretrained=False, features_only=True)
        twin = timm.create_model("resnet18", pretrained=True, features_only=True)
        assert loaded == [NAME, NAME]
        with pytest.raises(weights.NeedsError, match="a download of efficientnet_b0"):
            timm.create_model("efficientnet_b0", pretrained=True)
    for network in (teacher, twin):
        assert torch.equal(network.state_dict()["conv_stem.weight"], state["conv_stem.weight"])
    assert not torch.equal(student.state_dict()["conv_stem.weight"], state["conv_stem.weight"])
    assert timm.create_model.__module__.startswith("timm")


def test_weights_of_another_network_are_refused(file: Path, tmp_path: Path) -> None:
    with (
        weights.local("mobilenetv2_050", file),
        pytest.raises(UserError, match="do not fit mobilenetv2_050"),
    ):
        timm.create_model("mobilenetv2_050", pretrained=True, features_only=True)
    state = torch.load(file, weights_only=True)
    state["foreign.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "more.pt")
    with (
        weights.local(NAME, tmp_path / "more.pt"),
        pytest.raises(UserError, match=r"does not know foreign\.weight"),
    ):
        timm.create_model(NAME, pretrained=True, features_only=True)


def test_no_connection_leaves_a_run_with_local_weights() -> None:
    with (
        weights.no_network(),
        pytest.raises(weights.NeedsError, match=r"a download from 127\.0\.0\.1"),
        socket.socket() as wire,
    ):
        wire.connect(("127.0.0.1", 9))


def test_a_swallowed_refusal_is_told_and_trained_networks_are_refused() -> None:
    with pytest.raises(weights.NeedsError, match="a download from example"), weights.no_network():
        try:
            socket.socket().connect(("example", 443))
        except weights.NeedsError:
            raise RuntimeError("no luck") from None
    with weights.no_trained_networks():
        timm.create_model(NAME, pretrained=False)
        with pytest.raises(weights.NeedsError, match=f"a download of {NAME}"):
            timm.create_model(NAME, pretrained=True)


def test_layers_are_found_by_stride_and_inputs_normalised_for_the_weights() -> None:
    assert weights.layers_of("mobilenetv2_100", (8, 16)) == ["blocks.2", "blocks.4"]
    assert weights.layers_of("resnet18", (4, 8, 16)) == ["layer1", "layer2", "layer3"]
    with pytest.raises(UserError, match="no features of stride 3"):
        weights.layers_of("resnet18", (3,))
    mean, _ = weights.input_statistics("mobilenetv2_100")
    assert mean == [0.485, 0.456, 0.406]
    assert weights.input_statistics("vit_base_patch16_224.augreg_in21k")[0] == [0.5, 0.5, 0.5]
