"""What the spacing of a sampling chain costs, without any network: ideal denoisers of textures.

    python benchmarks/spacing.py

A Gaussian field with a texture's power spectrum has a known ideal denoiser, so that the spectrum of
what a sampler makes of it follows by arithmetic. Printed: the divergence KL(made || true) a
frequency in nats, mean of the embedded dataset's photographs, of the ancestral step with the best
variance that is one number for all pixels (what learned variance can do at most) and of DDIM.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sia_gen.core.data.textures import CATEGORIES, CROP, photograph
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


def made(power: Floats, chain: Schedule, *, ancestral: bool) -> Floats:
    """Returns the spectrum that a sampler with the ideal denoiser leaves."""
    a, before, beta = chain.alphas_cumprod, chain.alphas_cumprod_prev, chain.betas
    variance = np.ones_like(power)
    for i in range(len(a) - 1, -1, -1):
        seen = a[i] * power + 1.0 - a[i]
        guess = np.sqrt(a[i]) * power / seen  # of x_0, a factor of x_t
        if not ancestral:
            noise = (1.0 - np.sqrt(a[i]) * guess) / np.sqrt(1.0 - a[i])
            variance *= (np.sqrt(before[i]) * guess + np.sqrt(1.0 - before[i]) * noise) ** 2
            continue
        first = chain.posterior_mean_coef1[i]
        variance *= (first * guess + chain.posterior_mean_coef2[i]) ** 2
        if i:
            low = chain.posterior_variance[i]
            doubt = power * (1.0 - a[i]) / seen  # variance of x_0 given x_t
            variance += np.clip((low + first**2 * doubt).mean(), low, beta[i])
    return variance


def main() -> None:
    """Prints the table."""
    powers = [spectrum(name) for name in CATEGORIES]
    print(f"{'steps':>5}  {'spacing':<10}{'ancestral':>10}{'ddim':>10}")
    for steps in (20, 25, 50):
        for spacing in SPACINGS:
            chain = respace(linear(), steps, spacing)
            row = []
            for ancestral in (True, False):
                ratios = [made(p, chain, ancestral=ancestral) / p for p in powers]
                row.append(np.mean([0.5 * (r - 1.0 - np.log(r)).mean() for r in ratios]))
            print(f"{steps:>5}  {spacing:<10}{row[0]:>10.4f}{row[1]:>10.4f}")


if __name__ == "__main__":
    main()
