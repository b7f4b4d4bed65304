"""SDAS as a diffusers scheduler: its configuration, a strength per image, DDIM's perturbations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from sia_gen.core.errors import UserError
from sia_gen.core.shared_options import SAMPLERS
from sia_gen.diffusion.sampling import image_generators, sample
from sia_gen.diffusion.scheduler import SDASScheduler
from sia_gen.diffusion.unet import even_phases, fold, unfold


def chain(**options: Any) -> SDASScheduler:
    made = SDASScheduler(**options)
    made.set_timesteps(20)
    return made


def tensors(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, 4, 4, generator=random)
    return x, torch.randn(count, 6, 4, 4, generator=random).clamp(-1, 1)


@pytest.mark.parametrize("kind", ["learned", "posterior", "beta"])
def test_ddim_adds_noise_of_s_times_the_chosen_variance(kind: str) -> None:
    scheduler, (x, output) = chain(algorithm="ddim", perturbation=kind), tensors()
    i, s = 9, 0.02
    t = int(scheduler.chain.timesteps[i])
    step = scheduler.step(output, t, x, strength=s, noise=torch.ones_like(x))
    still = scheduler.step(output, t, x, strength=0.0, noise=torch.ones_like(x))
    torch.testing.assert_close(still.prev_sample, still.mean)
    expected = {
        "learned": step.variance,
        "posterior": torch.full_like(x, float(scheduler.chain.posterior_variance[i])),
        "beta": torch.full_like(x, float(scheduler.chain.betas[i])),
    }[kind]
    added = (step.prev_sample - still.prev_sample) ** 2
    torch.testing.assert_close(added, s * expected, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("spacing", ["leading", "quadratic"])
def test_the_second_order_step_is_that_of_diffusers(spacing: str) -> None:
    """DPM-Solver++(2M) SDE, with the same timesteps, predictions and noise."""
    ours = chain(algorithm="dpmpp-2m-sde", timestep_spacing=spacing, clip_sample=False)
    theirs = DPMSolverMultistepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        lower_order_final=False,
    )
    theirs.set_timesteps(timesteps=ours.timesteps.tolist())
    random = torch.Generator().manual_seed(0)
    x = y = torch.randn(2, 3, 4, 4, generator=random)
    previous = None
    for t in ours.timesteps:
        noise = torch.randn(x.shape, generator=random)
        predicted = [torch.tanh(z * (1.0 + t / 1000)) for z in (x, y)]
        variance = torch.rand(x.shape, generator=random)  # learned, and not looked at
        step = ours.step(
            torch.cat([predicted[0], variance], 1), t, x, noise=noise, previous=previous
        )
        previous, x = step.pred_original_sample, step.prev_sample
        y = theirs.step(predicted[1], t, y, variance_noise=noise).prev_sample
        torch.testing.assert_close(x, y, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("algorithm", SAMPLERS)
def test_each_image_has_its_own_strength(algorithm: str) -> None:
    scheduler, (x, output) = chain(algorithm=algorithm), tensors()
    strengths = [0.0, 0.1, 0.7]
    t, noise = int(scheduler.timesteps[3]), torch.randn_like(x)
    together = scheduler.step(output, t, x, strength=torch.tensor(strengths), noise=noise)
    for k, s in enumerate(strengths):
        one = slice(k, k + 1)
        alone = scheduler.step(output[one], t, x[one], strength=s, noise=noise[one])
        torch.testing.assert_close(together.prev_sample[one], alone.prev_sample)


def test_the_configuration_is_saved_and_loaded(tmp_path: Path) -> None:
    SDASScheduler(prediction_type="v_prediction", algorithm="ddim").save_pretrained(str(tmp_path))
    loaded = SDASScheduler.from_pretrained(str(tmp_path))
    assert loaded.config.prediction_type == "v_prediction"
    assert loaded.config.algorithm == "ddim"
    for wrong in ({"algorithm": "euler"}, {"perturbation": "none"}, {"beta_schedule": "cosine"}):
        with pytest.raises(UserError):
            SDASScheduler(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -0.1])
def test_a_strength_that_is_none_is_refused(strength: float) -> None:
    scheduler, (x, output) = chain(), tensors()
    with pytest.raises(UserError, match="expected finite numbers of at least 0"):
        scheduler.step(output, 950, x, strength=torch.tensor([0.1, strength, 0.1]), noise=x)


def test_noise_of_an_image_is_its_own() -> None:
    def denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.cat([x * torch.cos(t.float()).view(-1, 1, 1, 1), torch.tanh(x)], dim=1)

    def images(seeds: list[int]) -> np.ndarray:
        strengths = [0.1 * (seed % 3) for seed in seeds]
        generators = image_generators(seeds)
        cpu = torch.device("cpu")
        return sample(denoiser, chain(), (3, 8, 8), generators, strengths, cpu).numpy()

    batch = images([5, 6, 7, 8])
    for position, seed in enumerate((5, 6, 7, 8)):
        np.testing.assert_array_equal(images([seed])[0], batch[position])
    np.testing.assert_array_equal(images([8, 6])[1], batch[1])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_even_phases_leave_an_x_0_without_the_pattern_of_the_fold_and_the_rest_alone(
    kind: str,
) -> None:
    made = chain(prediction_type=kind, timestep_spacing="quadratic", clip_sample=False)
    random = torch.Generator().manual_seed(0)
    x, output = torch.randn(2, 3, 8, 8, generator=random), torch.randn(2, 6, 8, 8, generator=random)
    t = int(made.timesteps[10])
    folded = torch.cat([fold(o, 2) for o in output.chunk(2, dim=1)], dim=1)
    even = even_phases(folded, fold(x, 2), float(made.full.alphas_cumprod[t]), 3, kind)
    steps = [made.step(o, t, x, noise=torch.zeros_like(x)) for o in (output, unfold(even, 2))]
    phases = fold(steps[1].pred_original_sample, 2).mean(dim=(2, 3)).view(2, 3, 4)
    torch.testing.assert_close(phases, phases.mean(dim=2, keepdim=True).expand_as(phases))
    change = fold(steps[1].pred_original_sample - steps[0].pred_original_sample, 2)
    torch.testing.assert_close(change, change[:, :, :1, :1].expand_as(change), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(steps[0].variance, steps[1].variance)


def test_quadratic_spacing_has_more_steps_at_low_noise_and_ends_in_pure_noise() -> None:
    made = chain(timestep_spacing="quadratic")
    kept = made.chain.timesteps
    assert kept[:4].tolist() == [0, 3, 11, 25] and kept[-1] == 999
    assert (np.diff(kept) > 0).all() and (np.diff(kept) == np.sort(np.diff(kept))).all()
    full = SDASScheduler(timestep_spacing="quadratic")
    np.testing.assert_array_equal(full.chain.timesteps, np.arange(1000))
    with pytest.raises(UserError, match="'trailing' is not one of leading, quadratic"):
        SDASScheduler(timestep_spacing="trailing")
