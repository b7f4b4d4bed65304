"""One seed per image: the same (run seed, category, index) gives the same image everywhere."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """Returns a 63-bit seed from any mix of words and numbers; order and type matter."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """Returns a numpy generator seeded by `derive_seed(*parts)`."""
    return np.random.Generator(np.random.PCG64(derive_seed(*parts)))


def image_seed(run_seed: int, category: str, index: int) -> int:
    """Returns the seed of image `index` of `category` (dataset/category)."""
    return derive_seed(run_seed, category, index)


def image_strength(seed: int, low: float, high: float) -> float:
    """Returns the strength of the image with this seed, uniform in [low, high]."""
    return float(generator(seed, "strength").uniform(low, high)) if high > low else float(low)
