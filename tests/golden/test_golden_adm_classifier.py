"""ADM's guidance classifier: the authors' logits, and what its gradient does to a reverse step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sia_gen.core.errors import UserError
from sia_gen.diffusion.classifier import Guidance, load_guidance
from sia_gen.diffusion.generator import load_generator
from sia_gen.diffusion.importing import import_adm
from sia_gen.diffusion.scheduler import SDASScheduler

NAMES = ("a", "b", "c")
CPU = torch.device("cpu")


def imported(golden: Path, out: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {"dataset": "three", "classes": NAMES, "resolution": 32}
    return import_adm(golden / "adm_classifier_tiny.pt", out, **{**arguments, **changes})  # type: ignore[arg-type]


def loaded(folder: Path, scale: float = 1.0) -> Guidance:
    return load_guidance(folder, scale, resolution=32, channels=3, classes=NAMES, device=CPU)


def test_imported_classifier_gives_the_authors_logits(golden: Path, tmp_path: Path) -> None:
    guidance = loaded(imported(golden, tmp_path / "c"), scale=2.0)
    io = np.load(golden / "adm_classifier_tiny_io.npz")
    x, t = torch.from_numpy(io["x"]), torch.from_numpy(io["t"])
    with torch.no_grad():
        logits = guidance.network(x, t)
    np.testing.assert_allclose(logits.numpy(), io["logits"], rtol=1e-4, atol=1e-5)
    # The gradient, times the scale: against finite differences in one direction.
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    small = 1e-3

    def log_p(at: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(guidance.network.double()(at, t), dim=1)[:, 1].sum()

    gradient = guidance.gradient(x, t, "b")
    plus, minus = (log_p(x.double() + sign * small * direction.double()) for sign in (1, -1))
    slope = 2.0 * (plus - minus) / (2 * small)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-3)


@pytest.mark.parametrize("algorithm", ["iddpm", "ddim"])
def test_the_gradient_moves_the_mean_by_the_variance(algorithm: str) -> None:
    scheduler = SDASScheduler(algorithm=algorithm, clip_sample=False)
    scheduler.set_timesteps(20)
    random = torch.Generator().manual_seed(1)
    x, noise, gradient = (torch.randn(2, 3, 4, 4, generator=random) for _ in range(3))
    output = torch.randn(2, 6, 4, 4, generator=random).clamp(-1, 1)
    t = int(scheduler.timesteps[7])
    plain = scheduler.step(output, t, x, strength=0.2, noise=noise)
    guided = scheduler.step(output, t, x, strength=0.2, noise=noise, gradient=gradient)
    moved = guided.prev_sample - plain.prev_sample
    if algorithm == "iddpm":
        expected = plain.variance * gradient
    else:
        # Algorithm 2: the noise prediction itself is lowered by sqrt(1 - a) times the gradient.
        product = float(scheduler.chain.alphas_cumprod[scheduler._index[t]])
        lowered = output.clone()
        lowered[:, :3] -= (1 - product) ** 0.5 * gradient
        again = scheduler.step(lowered, t, x, strength=0.2, noise=noise)
        expected = again.prev_sample - plain.prev_sample
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


def test_guided_images_differ_and_are_the_same_again(golden: Path, tmp_path: Path) -> None:
    classifier = imported(golden, tmp_path / "c")
    model = import_adm(
        golden / "adm_unet_tiny.pt",
        tmp_path / "m",
        dataset="three",
        classes=NAMES,
        resolution=32,
        head_channels=16,
    )

    def images(scale: float | None) -> np.ndarray:
        guidance = {} if scale is None else {"guidance": classifier, "guidance_scale": scale}
        made = load_generator(model, device="cpu", precision="fp32", steps=3, **guidance)  # type: ignore[arg-type]
        return made.images("b", [1, 2], [0.1, 0.2])

    np.testing.assert_array_equal(images(2000.0), images(2000.0))
    assert not np.array_equal(images(None), images(2000.0))
    assert np.abs(images(None).astype(int) - images(1e-6)).max() <= 1


def test_a_classifier_that_does_not_fit_is_refused(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knows 3 classes, 2 are named"):
        imported(golden, tmp_path / "c", classes=("a", "b"))
    with pytest.raises(UserError, match="give its --resolution"):
        imported(golden, tmp_path / "c", resolution=256)
    with pytest.raises(UserError, match="does not divide"):
        imported(golden, tmp_path / "c", head_channels=48)
    assert not (tmp_path / "c").exists()
    state = torch.load(golden / "adm_classifier_tiny.pt", weights_only=True)
    del state["middle_block.1.norm.weight"]
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(UserError, match=r"missing mid_block.attentions.0.group_norm.weight"):
        import_adm(
            tmp_path / "broken.pt", tmp_path / "c", dataset="three", classes=NAMES, resolution=32
        )
    folder = imported(golden, tmp_path / "c")
    for changed, reason in (
        ({"resolution": 64}, "its resolution is 32, the diffusion model's 64"),
        ({"channels": 1}, "its channels is 3, the diffusion model's 1"),
        ({"classes": ("a", "z")}, "does not know z"),
    ):
        arguments = {"resolution": 32, "channels": 3, "classes": NAMES, "device": CPU, **changed}
        with pytest.raises(UserError, match=reason):
            load_guidance(folder, 1.0, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"holds no classifier.json"):
        load_guidance(tmp_path, 1.0, resolution=32, channels=3, classes=NAMES, device=CPU)
