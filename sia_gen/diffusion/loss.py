"""The hybrid loss: noise prediction plus the bound that trains the variance (RealNet, S2, S3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from sia_gen.diffusion.schedule import Schedule

Tensor = torch.Tensor


class HybridLoss(NamedTuple):
    """Losses per sample (B,): mean squared error, bound in bits per dimension, and their sum."""

    mse: Tensor
    vb_bits_per_dim: Tensor
    total: Tensor


def _at(values: object, t: Tensor) -> Tensor:
    table = torch.as_tensor(values, device=t.device)
    return table[t].float().view(-1, 1, 1, 1)


def _mean_over_image(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.flatten(1).mean(dim=1)


def _normal_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    spread = (log_var1 - log_var2).exp() + (mean1 - mean2).square() * (-log_var2).exp()
    return 0.5 * (-1.0 + log_var2 - log_var1 + spread)


def _standard_normal_cdf(x: Tensor) -> Tensor:
    # The tanh approximation that ADM and its descendants train with.
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x.pow(3))))


def _discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns log p of 8-bit values x in [-1, 1] under a normal, integrated over their bins."""
    centred, inverse = x - mean, torch.exp(-log_scale)
    upper = _standard_normal_cdf(inverse * (centred + 1.0 / 255.0))
    lower = _standard_normal_cdf(inverse * (centred - 1.0 / 255.0))
    tiny = 1e-12
    inside = (upper - lower).clamp(min=tiny).log()
    below, above = upper.clamp(min=tiny).log(), (1.0 - lower).clamp(min=tiny).log()
    return torch.where(x < -0.999, below, torch.where(x > 0.999, above, inside))


def hybrid_loss(
    chain: Schedule,
    model_output: Tensor,
    x_start: Tensor,
    x_t: Tensor,
    noise: Tensor,
    t: Tensor,
    prediction_type: str = "epsilon",
) -> HybridLoss:
    """Returns L_simple + L_vlb per sample for steps t (B,), indices into the chain.

    One step's KL (the decoder's likelihood at t = 0) estimates the bound's sum over T = 1000 steps;
    times gamma = 0.001 its weight is 1. The mean is frozen in it: it trains the variance alone.
    With `v_prediction` the squared error is that of the velocity.
    """
    prediction, v = model_output.float().chunk(2, dim=1)
    target, epsilon = noise, prediction
    if prediction_type == "v_prediction":
        kept = _at(np.sqrt(chain.alphas_cumprod), t)
        added = _at(np.sqrt(1.0 - chain.alphas_cumprod), t)
        target = kept * noise - added * x_start
        epsilon = kept * prediction + added * x_t
    mse = _mean_over_image((target - prediction).square())

    # Tables are made in float64: 1 / product - 1 cancels near the image.
    product = chain.alphas_cumprod
    scale, noise_scale = _at(np.sqrt(1.0 / product), t), _at(np.sqrt(1.0 / product - 1.0), t)
    coef1, coef2 = _at(chain.posterior_mean_coef1, t), _at(chain.posterior_mean_coef2, t)
    low, high = _at(chain.posterior_log_variance, t), _at(np.log(chain.betas), t)
    fraction = (v + 1.0) / 2.0
    log_variance = fraction * high + (1.0 - fraction) * low

    frozen = epsilon.detach()
    x0 = scale * x_t - noise_scale * frozen
    mean = coef1 * x0 + coef2 * x_t
    true_mean = coef1 * x_start + coef2 * x_t
    kl = _mean_over_image(_normal_kl(true_mean, low, mean, log_variance))
    nll = _mean_over_image(-_discretised_log_likelihood(x_start, mean, 0.5 * log_variance))
    bound = torch.where(t == 0, nll, kl) / math.log(2.0)
    return HybridLoss(mse, bound, mse + bound)
