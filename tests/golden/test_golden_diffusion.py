"""SDAS against arrays of the RealNet authors' code: schedule, steps, trajectories, loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sia_gen.diffusion.loss import hybrid_loss
from sia_gen.diffusion.schedule import linear, respace
from sia_gen.diffusion.scheduler import SDASScheduler

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def scheduler(**options: str) -> SDASScheduler:
    made = SDASScheduler(**options)
    made.set_timesteps(20)
    return made


def analytic(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The golden trajectories' model: eps = 0.9 x cos(t), v = tanh(x)."""
    return torch.cat([0.9 * x_t * torch.cos(t.float()), torch.tanh(x_t)], dim=1)


def test_respaced_schedule(golden: Path) -> None:
    expected = np.load(golden / "sdas_schedule.npz")
    chain = respace(linear(), 20)
    np.testing.assert_array_equal(chain.timesteps, expected["timestep_map"])
    for name in (
        "betas",
        "alphas_cumprod",
        "posterior_variance",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
    ):
        np.testing.assert_allclose(getattr(chain, name), expected[name], rtol=1e-10, atol=1e-14)


def test_single_steps(golden: Path) -> None:
    expected = np.load(golden / "sdas_steps.npz")
    cases = sorted({name.split(".")[0] for name in expected})
    assert cases
    for k in cases:
        value = {n: expected[f"{k}.{n}"] for n in ("x_t", "model_output", "noise")}
        step = scheduler().step(
            tensor(value["model_output"]),
            int(expected[f"{k}.timestep"]),
            tensor(value["x_t"]),
            strength=float(expected[f"{k}.strength"]),
            noise=tensor(value["noise"]),
        )
        for ours, name in (
            (step.mean, "mean"),
            (step.variance, "variance"),
            (step.pred_original_sample, "pred_xstart"),
            (step.prev_sample, "x_prev"),
        ):
            np.testing.assert_allclose(
                ours.numpy(), expected[f"{k}.{name}"], err_msg=f"{k}.{name}", **TOLERANCE
            )


def test_whole_trajectory(golden: Path) -> None:
    expected = np.load(golden / "sdas_trajectory.npz")
    noises = tensor(expected["noises"])
    chain, x = scheduler(), noises[0]
    for i, t in enumerate(chain.timesteps):
        output = analytic(x, t)
        x = chain.step(
            output, t, x, strength=float(expected["strength"]), noise=noises[i + 1]
        ).prev_sample
    np.testing.assert_allclose(x.numpy(), expected["x0"], **TOLERANCE)


def test_ddim_without_perturbation(golden: Path) -> None:
    expected = np.load(golden / "ddim_trajectory.npz")
    chain, x = scheduler(algorithm="ddim"), tensor(expected["x_T"])
    for t in chain.timesteps:
        x = chain.step(analytic(x, t), t, x, strength=0.0, noise=torch.zeros_like(x)).prev_sample
    np.testing.assert_allclose(x.numpy(), expected["x0"], **TOLERANCE)


def test_hybrid_loss(golden: Path) -> None:
    expected = np.load(golden / "hybrid_loss.npz")
    value = {n: tensor(expected[n]) for n in ("t", "x_start", "noise", "model_output")}
    x_t = SDASScheduler().add_noise(value["x_start"], value["noise"], value["t"])
    loss = hybrid_loss(
        linear(), value["model_output"], value["x_start"], x_t, value["noise"], value["t"]
    )
    np.testing.assert_allclose(loss.mse.numpy(), expected["mse"], **TOLERANCE)
    np.testing.assert_allclose(
        loss.vb_bits_per_dim.numpy(), expected["vb_bits_per_dim"], rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(loss.total.numpy(), expected["loss"], **TOLERANCE)


@pytest.mark.parametrize("strength", [0.0, 0.15])
def test_ddpm_scheduler_of_diffusers_agrees_at_strength_zero(strength: float) -> None:
    """Law 4: s = 0 is diffusers' ordinary step; s > 0 scales the noise by sqrt(1 + s) exactly."""
    from diffusers import DDPMScheduler

    ours = scheduler()
    theirs = DDPMScheduler(variance_type="learned_range", timestep_spacing="leading")
    theirs.set_timesteps(20)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in ours.timesteps[:-1]:
        output = analytic(x, t)
        a = ours.step(
            output,
            t,
            x,
            noise=torch.randn(x.shape, generator=torch.Generator().manual_seed(int(t))),
        )
        b = theirs.step(output, int(t), x, generator=torch.Generator().manual_seed(int(t)))
        np.testing.assert_allclose(
            a.prev_sample.numpy(), b.prev_sample.numpy(), rtol=2e-4, atol=2e-4
        )
        noisy = ours.step(output, t, x, strength=strength, noise=torch.ones_like(x))
        spread = noisy.prev_sample - noisy.mean
        np.testing.assert_allclose(
            (spread**2).numpy(), ((1 + strength) * noisy.variance).numpy(), rtol=1e-3, atol=1e-7
        )
