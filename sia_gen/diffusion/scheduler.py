"""SDAS as a diffusers scheduler: the reverse step with strength (RealNet, Eq. 2, Algorithms 1, S1).

Sampling with strength s draws x_{t-1} from N(mean, (1 + s) Sigma): s = 0 is the ordinary reverse
step, s > 0 leads into regions of low probability, where normal images look anomalous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from sia_gen.core.errors import UserError
from sia_gen.core.shared_options import SAMPLERS
from sia_gen.diffusion.schedule import SPACINGS, Schedule, linear, respace

Tensor = torch.Tensor
Perturbation = Literal["learned", "posterior", "beta"]


@dataclass
class SDASOutput(BaseOutput):
    """One reverse step: the next sample, and what it was drawn from, all (B, C, H, W)."""

    prev_sample: Tensor
    pred_original_sample: Tensor
    mean: Tensor
    variance: Tensor


def per_image_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Returns standard normal noise (B, ...), row i drawn from generator i alone.

    An image therefore does not depend on its neighbours in the batch.
    """
    return torch.stack([torch.randn(tuple(shape[1:]), generator=g) for g in generators])


class SDASScheduler(SchedulerMixin, ConfigMixin):
    """Strength-controllable reverse diffusion with a learned-range variance.

    The network predicts the noise (`epsilon`, as published) or the velocity
    sqrt(a) noise - sqrt(1 - a) x_0 (`v_prediction`, Salimans & Ho 2022: errors at high noise stay
    bounded, which small networks and short trainings need). `algorithm` is one of

    - `iddpm` (Eq. 2);
    - `ddim` (Algorithm S1: the deterministic step, then noise of variance s Sigma with Sigma by
      `perturbation`: learned, posterior beta tilde, or beta);
    - `dpmpp-2m-sde` (not the paper's): Eq. 2 with Sigma = beta tilde and x_0 extrapolated from two
      predictions, the second-order stochastic step of Lu et al. (DPM-Solver++, 2022). A first-order
      chain of 20 steps loses a quarter of the contrast even with a perfect network.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        variance_type: str = "learned_range",
        clip_sample: bool = True,  # noqa: ARG002  read from the config
        prediction_type: str = "epsilon",
        timestep_spacing: str = "leading",
        steps_offset: int = 0,  # noqa: ARG002  what DDPMScheduler reads from the config
        algorithm: str = "iddpm",
        perturbation: str = "learned",
    ) -> None:
        fixed = {
            "beta_schedule": (beta_schedule, "linear"),
            "variance_type": (variance_type, "learned_range"),
        }
        for name, (value, supported) in fixed.items():
            if value != supported:
                raise UserError(
                    f"SDASScheduler: {name}={value!r} is not supported, only {supported!r}"
                )
        if timestep_spacing not in SPACINGS:
            raise UserError(
                f"SDASScheduler: timestep_spacing {timestep_spacing!r} is not one of"
                f" {', '.join(SPACINGS)}"
            )
        if prediction_type not in {"epsilon", "v_prediction"}:
            message = (
                f"SDASScheduler: prediction_type {prediction_type!r} is not epsilon or v_prediction"
            )
            raise UserError(message)
        if algorithm not in SAMPLERS:
            raise UserError(
                f"SDASScheduler: algorithm {algorithm!r} is not one of {', '.join(SAMPLERS)}"
            )
        if perturbation not in {"learned", "posterior", "beta"}:
            message = (
                f"SDASScheduler: perturbation {perturbation!r} is not learned, posterior or beta"
            )
            raise UserError(message)
        self.full = linear(num_train_timesteps, beta_start, beta_end)
        self.init_noise_sigma = 1.0
        self.set_timesteps(num_train_timesteps)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str = "cpu") -> None:
        """Chooses the respaced chain; `timesteps` then runs from noise to image."""
        self.chain: Schedule = respace(self.full, num_inference_steps, self.config.timestep_spacing)
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.from_numpy(self.chain.timesteps[::-1].copy()).to(device)
        self._index = {int(t): i for i, t in enumerate(self.chain.timesteps)}

    def scale_model_input(self, sample: Tensor, timestep: int | Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Returns the sample as it is: this process needs no scaling."""
        return sample

    def add_noise(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Returns x_t of q(x_t | x_0), (B, C, H, W), for timesteps (B,) of the full chain."""
        products = torch.as_tensor(self.full.alphas_cumprod, device=original.device)
        kept = products[timesteps].sqrt().to(original.dtype).view(-1, 1, 1, 1)
        added = (1.0 - products[timesteps]).sqrt().to(original.dtype).view(-1, 1, 1, 1)
        return kept * original + added * noise

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        strength: float | Tensor = 0.0,
        generators: Sequence[torch.Generator] | None = None,
        noise: Tensor | None = None,
        gradient: Tensor | None = None,
        previous: Tensor | None = None,
    ) -> SDASOutput:
        """Returns one reverse step from x_t: model_output (B, 2C, H, W), sample (B, C, H, W).

        `strength` is one number or one per image (B,), finite and at least 0. The noise is given,
        or drawn from one generator per image; the last step adds none. `gradient`, scale times
        grad_x log p(class | x_t), moves the mean by Sigma times itself (Dhariwal & Nichol 2021,
        Algorithm 1; with `ddim` the noise prediction, Algorithm 2): strength does not amplify it.
        `previous` is the last step's `pred_original_sample`, for `dpmpp-2m-sde`; without it the
        step is of first order.
        """
        if int(timestep) not in self._index:
            raise UserError(f"timestep {int(timestep)} is not in the chain {sorted(self._index)}")
        i = self._index[int(timestep)]
        strength = _checked_strength(strength, sample)
        if model_output.shape[1] != 2 * sample.shape[1]:
            raise UserError(
                f"the network returned {model_output.shape[1]} channels for {sample.shape[1]}:"
                " SDAS needs a learned variance (twice the image's channels)"
            )
        prediction, v = model_output.float().chunk(2, dim=1)
        epsilon = prediction
        if self.config.prediction_type == "v_prediction":
            product = float(self.chain.alphas_cumprod[i])
            epsilon = product**0.5 * prediction + (1.0 - product) ** 0.5 * sample.float()
        algorithm, x_t = self.config.algorithm, sample.float()
        pred_x0 = _predicted_x0(self.chain, i, x_t, epsilon, self.config.clip_sample)
        if algorithm == "dpmpp-2m-sde":
            mean = _posterior_mean(
                self.chain, i, x_t, _extrapolated(self.chain, i, pred_x0, previous)
            )
            variance = torch.full_like(v[:, :1], float(self.chain.posterior_variance[i]))
        else:
            mean = _posterior_mean(self.chain, i, x_t, pred_x0)
            variance = _learned_variance(self.chain, i, v)
        if gradient is not None and algorithm != "ddim":
            mean = mean + variance * gradient
        if algorithm == "ddim":
            if gradient is not None:
                pred_x0 = _guided_x0(self.chain, i, pred_x0, gradient)
            mean = _ddim_mean(self.chain, i, x_t, pred_x0)
            spread = (
                strength * _perturbation(self.chain, i, variance, self.config.perturbation)
            ).sqrt()
        else:
            spread = (1.0 + strength).sqrt() * variance.sqrt()
        if i == 0:
            return SDASOutput(mean, pred_x0, mean, variance)
        if noise is None:
            if generators is None:
                raise UserError("SDASScheduler.step: give noise, or one generator per image")
            noise = per_image_noise(sample.shape, generators).to(sample.device)
        return SDASOutput(mean + spread * noise, pred_x0, mean, variance)


def _checked_strength(strength: float | Tensor, sample: Tensor) -> Tensor:
    value = torch.as_tensor(strength, dtype=torch.float32, device=sample.device)
    if not bool(torch.isfinite(value).all()) or bool((value < 0).any()):
        raise UserError(f"strength {strength}: expected finite numbers of at least 0")
    return value.view(-1, 1, 1, 1) if value.ndim else value


def _predicted_x0(chain: Schedule, i: int, x_t: Tensor, epsilon: Tensor, clip: bool) -> Tensor:
    product = chain.alphas_cumprod[i]
    x0 = x_t * float(np.sqrt(1.0 / product)) - epsilon * float(np.sqrt(1.0 / product - 1.0))
    return x0.clamp(-1.0, 1.0) if clip else x0


def _posterior_mean(chain: Schedule, i: int, x_t: Tensor, x0: Tensor) -> Tensor:
    return float(chain.posterior_mean_coef1[i]) * x0 + float(chain.posterior_mean_coef2[i]) * x_t


def _extrapolated(chain: Schedule, i: int, x0: Tensor, previous: Tensor | None) -> Tensor:
    """Returns x_0 in the middle of step i, in lambda, on the line through two predictions.

    The last step, which ends in x_0 itself, stays as it is.
    """
    if previous is None or i == 0:
        return x0
    at = chain.half_log_snr
    ratio = float((at[i - 1] - at[i]) / (at[i] - at[i + 1]))
    return x0 + 0.5 * ratio * (x0 - previous)


def _learned_variance(chain: Schedule, i: int, v: Tensor) -> Tensor:
    """Returns Sigma (S1): the geometric mixture of beta and beta tilde, by v in [-1, 1]."""
    fraction = (v + 1.0) / 2.0
    high, low = float(np.log(chain.betas[i])), float(chain.posterior_log_variance[i])
    return torch.exp(fraction * high + (1.0 - fraction) * low)


def _guided_x0(chain: Schedule, i: int, x0: Tensor, gradient: Tensor) -> Tensor:
    """Returns x_0 of the noise prediction lowered by sqrt(1 - a) times the gradient."""
    product = float(chain.alphas_cumprod[i])
    return x0 + (1.0 - product) / product**0.5 * gradient


def _ddim_mean(chain: Schedule, i: int, x_t: Tensor, x0: Tensor) -> Tensor:
    product, before = chain.alphas_cumprod[i], chain.alphas_cumprod_prev[i]
    # The noise is derived from the clipped x_0, so that both describe the same x_t.
    epsilon = (x_t * float(np.sqrt(1.0 / product)) - x0) / float(np.sqrt(1.0 / product - 1.0))
    return x0 * float(np.sqrt(before)) + float(np.sqrt(1.0 - before)) * epsilon


def _perturbation(chain: Schedule, i: int, learned: Tensor, kind: str) -> Tensor:
    if kind == "learned":
        return learned
    fixed = chain.betas if kind == "beta" else chain.posterior_variance
    return torch.full_like(learned[:, :1], float(fixed[i]))
