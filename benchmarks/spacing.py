"""What spacing and sampler cost, without any network: ideal denoisers of textures.

    python benchmarks/spacing.py

A Gaussian field with a texture's power spectrum has a known ideal denoiser, so that the spectrum of
what a sampler makes of it follows by arithmetic. Printed: the divergence KL(made || true) a
frequency in nats, and the share of the true power that is left below 6 cycles an image (contrast,
structure); means of the embedded dataset's photographs. Samplers: the ancestral step with the best
variance that is one number for all pixels (what learned variance can do at most), DDIM, and the
second-order stochastic step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sia_gen.core.data.textures import CATEGORIES, CROP, photograph
from sia_gen.core.shared_options import SAMPLERS
from sia_gen.diffusion.schedule import SPACINGS, Schedule, linear, respace

Floats = npt.NDArray[np.float64]


def spectrum(category: str) -> Floats:
    """Returns the mean power of a photograph's windowed crops by frequency, (64, 64)."""
    photo = photograph(category).astype(np.float64) / 127.5 - 1.0
    window = np.outer(np.hanning(CROP), np.hanning(CROP))
    window /= np.sqrt(np.square(window).mean())
    photo -= photo.mean()
    places = range(0, len(photo) - CROP + 1, CROP // 2)
    crops = (photo[y : y + CROP, x : x + CROP] * window for y in places for x in places)
    return np.asarray(np.mean([np.abs(np.fft.fft2(c)) ** 2 / CROP**2 for c in crops], axis=0))


def made(power: Floats, chain: Schedule, sampler: str) -> Floats:
    """Returns the spectrum that a sampler with the ideal denoiser leaves.

    A frequency of x_t and of the last prediction of x_0 are Gaussian: their covariance is followed.
    """
    a, before, beta = chain.alphas_cumprod, chain.alphas_cumprod_prev, chain.betas
    at = chain.half_log_snr
    xx, xd, dd = np.ones_like(power), np.zeros_like(power), np.zeros_like(power)
    for i in range(len(a) - 1, -1, -1):
        seen = a[i] * power + 1.0 - a[i]
        guess = np.sqrt(a[i]) * power / seen  # of x_0, a factor of x_t
        keep, first = chain.posterior_mean_coef2[i], chain.posterior_mean_coef1[i]
        if sampler == "ddim":
            keep = np.sqrt((1.0 - before[i]) / (1.0 - a[i]))
            first = np.sqrt(before[i]) - keep * np.sqrt(a[i])
        ahead = 0.0
        if sampler == "dpmpp-2m-sde" and 0 < i < len(a) - 1:
            ahead = 0.5 * (at[i - 1] - at[i]) / (at[i] - at[i + 1])
        now, last = first * (1.0 + ahead) * guess + keep, -first * ahead
        moved = now**2 * xx + 2.0 * now * last * xd + last**2 * dd
        xx, xd, dd = moved, guess * (now * xx + last * xd), guess**2 * xx
        low = chain.posterior_variance[i]
        if i and sampler == "dpmpp-2m-sde":
            xx = xx + low
        elif i and sampler == "iddpm":
            doubt = power * (1.0 - a[i]) / seen  # variance of x_0 given x_t
            xx = xx + np.clip((low + first**2 * doubt).mean(), low, beta[i])
    return np.asarray(xx)


def main() -> None:
    """Prints the table."""
    powers = [spectrum(name) for name in CATEGORIES]
    cycles = np.hypot(*np.meshgrid(*[np.fft.fftfreq(CROP, 1.0 / CROP)] * 2))
    coarse = (cycles > 0) & (cycles < 6)
    print(f"{'steps':>5}  {'spacing':<10}" + "".join(f"{name:>20}" for name in SAMPLERS))
    for steps in (20, 25, 50):
        for spacing in SPACINGS:
            chain = respace(linear(), steps, spacing)
            row = ""
            for sampler in SAMPLERS:
                ratios = [made(p, chain, sampler) / p for p in powers]
                kl = np.mean([0.5 * (r - 1.0 - np.log(r)).mean() for r in ratios])
                row += f"{kl:>12.4f} {np.mean([r[coarse].mean() for r in ratios]):>6.0%} "
            print(f"{steps:>5}  {spacing:<10}{row}")


if __name__ == "__main__":
    main()
