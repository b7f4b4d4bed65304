"""Feature networks: what they compute, and what they say when something is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.metrics.clustered_lpips import squared_distances
from harness.quality import features
from harness.quality.features import open_network
from sia_gen.core.errors import UserError


def images(n: int, size: int = 64, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def trunk_state(name: str) -> dict[str, torch.Tensor]:
    import torchvision

    torch.manual_seed(0)
    constructor = {"alex": "alexnet", "squeeze": "squeezenet1_1"}[name]
    return dict(getattr(torchvision.models, constructor)(weights=None).state_dict())


def test_ranges_are_converted_in_one_place() -> None:
    pixels = np.array([0, 127, 128, 255], dtype=np.uint8).reshape(1, 2, 2, 1).repeat(3, axis=3)
    assert features.to_bytes(pixels).shape == (1, 3, 2, 2)
    assert features.to_unit(pixels).flatten()[[0, 3]].tolist() == [0.0, 1.0]
    assert features.to_signed(pixels).flatten()[[0, 3]].tolist() == [-1.0, 1.0]
    assert torch.allclose(features.to_signed(pixels), features.to_unit(pixels) * 2 - 1)


def test_tiny_random_is_repeatable_and_says_what_it_is() -> None:
    first, second = open_network("tiny-random"), open_network("tiny-random")
    assert first.name == "tiny-random"
    assert first.weights_sha256 == second.weights_sha256
    assert first.weights_sha256.startswith("65080295")  # the same on every machine
    some = images(5)
    assert np.array_equal(first.pooled(some), second.pooled(some))
    assert first.pooled(some).shape == (5, 128)
    assert len(first.embedded(some)) == 5


def test_blocks_join_to_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    network, some = open_network("tiny-random"), images(7)
    whole = network.embedded(some)
    monkeypatch.setattr(features, "BATCH", 2)
    blocks = list(network.embeddings(iter(some)))
    assert [len(block) for block in blocks] == [2, 2, 2, 1]
    assert np.allclose(np.concatenate(blocks), whole, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # lpips calls torchvision the old way
@pytest.mark.parametrize("name", ["alex", "squeeze"])
def test_embeddings_are_as_far_apart_as_lpips_says_of_pairs(name: str) -> None:
    import lpips

    state = trunk_state(name)
    network = features.lpips_from(name, state, "0" * 64, "test")
    theirs = lpips.LPIPS(net=name, pnet_rand=True, verbose=False).eval()
    own = theirs.net.state_dict()
    # lpips keeps torchvision's layer numbers inside its slices.
    for key in own:
        own[key] = state["features." + key.split(".", 1)[1]]
    theirs.net.load_state_dict(own)
    some = images(4)
    with torch.inference_mode():
        signed = features.to_signed(np.stack(some))
        expected = theirs(signed[[0, 0, 1]], signed[[1, 2, 3]]).flatten().numpy()
    vectors = network.embedded(some)
    found = squared_distances(vectors, vectors)
    assert found[[0, 0, 1], [1, 2, 3]] == pytest.approx(expected, rel=1e-4)


def test_timm_weights_by_file(tmp_path: Path) -> None:
    import timm

    name = "mobilenetv2_050"
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": model.state_dict()}, file)
    network = open_network(f"timm:{name}", str(file))
    some = images(3)
    pooled = network.pooled(some)
    assert pooled.shape == (3, 1280)
    assert network.name == f"timm:{name}"
    assert len(network.weights_sha256) == 64
    own = network.embedded(some)
    distances = squared_distances(own, own)
    assert np.allclose(np.diag(distances), 0.0, atol=1e-9)
    assert distances[0, 1] > 0

    state = model.state_dict()
    del state["conv_stem.weight"]
    torch.save(state, file)
    with pytest.raises(UserError, match=r"lacks conv_stem.weight \(1 in all\)"):
        open_network(f"timm:{name}", str(file))
    file.write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match="is a web page"):
        open_network(f"timm:{name}", str(file))


def test_a_file_with_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="no readable file of tensors"):
        open_network("timm:resnet18", str(tmp_path / "trap.pth"))
    assert not (tmp_path / "ran").exists()


def test_missing_weights_say_which_where_and_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name, file in (
        ("inception", features.INCEPTION_FILE),
        ("alex", "alexnet-owt-7be5be79.pth"),
        ("vgg", "vgg16-397923af.pth"),
    ):
        with pytest.raises(UserError) as caught:
            open_network(name)
        text = str(caught.value)
        assert file in text
        assert str(tmp_path / "checkpoints" / file) in text
        assert "https://" in text
        assert "--feature-weights" in text
    with pytest.raises(UserError, match="--feature-weights FILE"):
        open_network("timm:resnet18")
    with pytest.raises(UserError, match="does not exist"):
        open_network("timm:resnet18", str(tmp_path / "none.pth"))


def test_another_file_than_stated_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / features.INCEPTION_FILE
    file.write_bytes(b"not the weights")
    with pytest.raises(UserError, match="SHA-256 begins"):
        open_network("inception", str(file))


def test_inception_without_its_package_says_so(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch_fidelity"):
        pytest.skip("torch-fidelity is installed")
    with pytest.raises(UserError, match="pip install torch-fidelity"):
        features.inception_from(tmp_path / "weights.pth", "0" * 64)


def test_unknown_names_offer_near_ones() -> None:
    with pytest.raises(UserError, match="Did you mean inception"):
        open_network("inceptoin")
    with pytest.raises(UserError, match="Did you mean resnet18"):
        open_network("timm:resnet81", "x")
    with pytest.raises(UserError, match="has no weights"):
        open_network("tiny-random", "file.pth")


def test_uses_a_network_does_not_have_are_refused() -> None:
    network = features.lpips_from("alex", trunk_state("alex"), "0" * 64, "test")
    with pytest.raises(UserError, match="no pooled features"):
        network.pooled(images(1))
    with pytest.raises(UserError, match="cannot take images of 16 x 16"):
        network.embedded(images(1, size=16))
