"""The noise schedule: linear betas over T training steps, respaced to the few for sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sia_gen.core.errors import UserError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A chain of S steps, float64 (S,) each; index 0 is the step that ends in an image.

    `timesteps` are what the network was trained with: 0 .. T-1 for the full chain.
    """

    timesteps: npt.NDArray[np.int64]
    betas: Floats
    alphas_cumprod: Floats

    @property
    def alphas_cumprod_prev(self) -> Floats:
        """Returns the cumulative product one step nearer to the image, 1 at the end."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @property
    def posterior_variance(self) -> Floats:
        """Returns beta tilde, the variance of q(x_{t-1} | x_t, x_0); 0 at the last step."""
        return self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @property
    def posterior_log_variance(self) -> Floats:
        """Returns log beta tilde; the last step's, log 0, is replaced by that of the one before."""
        variance = self.posterior_variance
        if len(variance) == 1:
            return np.log(self.betas)
        return np.log(np.append(variance[1], variance[1:]))

    @property
    def half_log_snr(self) -> Floats:
        """Returns lambda = log(sqrt(a) / sqrt(1 - a)), which grows towards the image."""
        return 0.5 * np.log(self.alphas_cumprod / (1.0 - self.alphas_cumprod))

    @property
    def posterior_mean_coef1(self) -> Floats:
        """Returns the weight of x_0 in the mean of q(x_{t-1} | x_t, x_0)."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @property
    def posterior_mean_coef2(self) -> Floats:
        """Returns the weight of x_t in the mean of q(x_{t-1} | x_t, x_0)."""
        kept = np.sqrt(1.0 - self.betas) * (1.0 - self.alphas_cumprod_prev)
        return kept / (1.0 - self.alphas_cumprod)


def linear(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Schedule:
    """Returns the full training chain with linear betas (DDPM)."""
    betas = np.linspace(start, end, steps, dtype=np.float64)
    return Schedule(
        timesteps=np.arange(steps),
        betas=betas,
        alphas_cumprod=np.cumprod(1.0 - betas, dtype=np.float64),
    )


SPACINGS = ("leading", "quadratic")


def _kept(total: int, steps: int, spacing: str) -> npt.NDArray[np.int64]:
    if spacing == "leading":
        return np.arange(steps) * (total // steps)
    share = np.arange(steps) / (steps - 1) if steps > 1 else np.ones(1)
    # Near the image the square grows by less than one timestep a step: there each one is kept.
    return np.maximum(np.rint((total - 1) * share**2).astype(np.int64), np.arange(steps))


def respace(full: Schedule, steps: int, spacing: str = "leading") -> Schedule:
    """Returns the chain over `steps` timesteps of a full one of T.

    `leading`, as published: 0, T/steps, 2 T/steps, ... `quadratic`: (T - 1) (i / (steps - 1))^2,
    more steps at low noise (Song et al., DDIM, 2021, appendix D), the first of them pure noise.
    The kept cumulative products stay what they were; the betas follow from them (IDDPM).
    """
    total = len(full.timesteps)
    if not 1 <= steps <= total:
        raise UserError(f"sampling steps {steps}: expected 1 to {total}")
    if spacing not in SPACINGS:
        raise UserError(f"spacing {spacing!r}: expected one of {', '.join(SPACINGS)}")
    kept = _kept(total, steps, spacing)
    products = full.alphas_cumprod[kept]
    betas = 1.0 - products / np.append(1.0, products[:-1])
    return Schedule(timesteps=kept, betas=betas, alphas_cumprod=products)
