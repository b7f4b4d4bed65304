"""SDAS in place: its formulas transcribed, its laws, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image
from sia_gen.core.pixels.perlin import mask as perlin
from sia_gen.core.statistics.kid import unbiased
from sia_gen.diffusion.generator import Generator, load_generator
from sia_gen.diffusion.health_features import real
from sia_gen.diffusion.in_place import sample_in_place, steps_of
from sia_gen.diffusion.model_folder import find_model
from sia_gen.diffusion.sampling import image_generators, to_tensor
from sia_gen.diffusion.scheduler import SDASScheduler

Floats = npt.NDArray[np.float64]
SHAPE = (3, 8, 8)


def scheduler(steps: int = 20, **options: Any) -> SDASScheduler:
    made = SDASScheduler(**options)
    made.set_timesteps(steps)
    return made


def denoiser(x: Any, t: Any) -> Any:
    """Predicts half of x as noise, and a variance that depends on the timestep; both libraries."""
    v = np.tanh(float(t.reshape(-1)[0]) / 500.0 - 1.0)
    library = torch if isinstance(x, torch.Tensor) else np
    parts = [0.5 * x + 0.1 * library.sin(3.0 * x), 0.0 * x + v]
    return torch.cat(parts, dim=1) if library is torch else np.concatenate(parts, axis=1)


def transcribed(
    x_0: Floats, mask: Floats, seeds: list[int], s: Floats, start: int, spacing: str, ddim: bool
) -> Floats:
    """The method page's formulas over the respaced chain, in float64: x_k, then k .. 0."""
    draws = [torch.Generator().manual_seed(g.initial_seed()) for g in image_generators(seeds)]

    def noise() -> Floats:
        return np.stack([torch.randn(SHAPE, generator=g).double().numpy() for g in draws])

    products = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
    i = np.arange(20)
    square = np.maximum(np.rint(999 * (i / 19) ** 2).astype(int), i)
    kept = square if spacing == "quadratic" else i * 50
    a = products[kept]
    before = np.append(1.0, a[:-1])
    beta = 1.0 - a / before
    posterior = beta * (1.0 - before) / (1.0 - a)
    x = np.sqrt(a[start]) * x_0 + np.sqrt(1.0 - a[start]) * noise()
    for i_now in range(start, -1, -1):
        out = denoiser(x, np.full(len(x), kept[i_now]))
        epsilon, v = out[:, :3], out[:, 3:]
        guess = np.clip((x - np.sqrt(1.0 - a[i_now]) * epsilon) / np.sqrt(a[i_now]), -1.0, 1.0)
        low = np.log(posterior[max(i_now, 1)])
        sigma = np.exp((v + 1) / 2 * np.log(beta[i_now]) + (1 - (v + 1) / 2) * low)
        if ddim:
            again = (x - np.sqrt(a[i_now]) * guess) / np.sqrt(1.0 - a[i_now])
            mean = np.sqrt(before[i_now]) * guess + np.sqrt(1.0 - before[i_now]) * again
            spread = np.sqrt(s * sigma)
        else:
            mean = np.sqrt(before[i_now]) * beta[i_now] / (1.0 - a[i_now]) * guess
            mean += np.sqrt(a[i_now] / before[i_now]) * (1.0 - before[i_now]) / (1.0 - a[i_now]) * x
            spread = np.sqrt((1.0 + s) * sigma)
        if i_now == 0:
            return mask * mean + (1.0 - mask) * x_0
        y = mean + spread * noise()
        z = np.sqrt(before[i_now]) * x_0 + np.sqrt(1.0 - before[i_now]) * noise()
        x = mask * y + (1.0 - mask) * z
    raise AssertionError


@pytest.mark.parametrize("spacing", ["leading", "quadratic"])
@pytest.mark.parametrize("algorithm", ["iddpm", "ddim"])
def test_golden_trajectory(algorithm: str, spacing: str) -> None:
    rng = np.random.default_rng(0)
    x_0 = rng.uniform(-1, 1, (2, *SHAPE))
    mask = rng.uniform(0, 1, (2, 1, 8, 8)) * (rng.uniform(0, 1, (2, 1, 8, 8)) > 0.4)
    strengths, seeds = [0.1, 0.7], [5, 6]
    found = sample_in_place(
        denoiser,
        scheduler(algorithm=algorithm, timestep_spacing=spacing),
        torch.from_numpy(x_0),
        torch.from_numpy(mask),
        image_generators(seeds),
        strengths,
        0.5,
    )
    s = np.array(strengths).reshape(2, 1, 1, 1)
    expected = transcribed(x_0, mask, seeds, s, 9, spacing, algorithm == "ddim")
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_a_depth_is_a_number_of_steps() -> None:
    assert [steps_of(d, 20) for d in (1e-6, 0.05, 0.5, 0.75, 1.0)] == [1, 1, 10, 15, 20]
    for wrong in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(UserError, match="above 0, at most 1"):
            steps_of(wrong, 20)


# With the shipped model, gray bricks and Perlin masks.

Pairs = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]


@pytest.fixture(scope="module")
def shipped() -> Generator:
    return load_generator(find_model("textures-64"), precision="fp32", steps=0)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    category = next(iter(open_dataset("textures").select("brick")))
    rng, masks = np.random.default_rng(3), []
    while len(masks) < 4:
        mask = perlin(64, rng)
        if 0.05 < mask.mean() < 0.5:
            masks.append(mask)
    images = [read_image(path, 64) for path in category.train[:4]]
    return np.stack(images), np.stack(masks)


def grown(generator: Generator, pairs: Pairs, s: float, depth: float) -> npt.NDArray[np.uint8]:
    normals, masks = pairs
    seeds = list(range(len(normals)))
    return generator.in_place("brick", seeds, [s] * len(seeds), normals, masks, depth)


def distance(images: npt.NDArray[np.uint8], pairs: Pairs) -> float:
    """Returns the mean absolute change inside the masks, in grey levels."""
    normals, masks = pairs
    return float(np.abs(images.astype(float) - normals)[masks].mean())


def test_outside_the_mask_nothing_changes(shipped: Generator, pairs: Pairs) -> None:
    images = grown(shipped, pairs, 1.0, 0.5)
    normals, masks = pairs
    np.testing.assert_array_equal(images[~masks], normals[~masks])
    assert distance(images, pairs) > 3


def test_no_depth_no_change(shipped: Generator, pairs: Pairs) -> None:
    change = np.abs(grown(shipped, pairs, 0.1, 1e-6).astype(int) - pairs[0])
    # The chain's first level is noise of 1.3 grey levels.
    assert change[pairs[1]].mean() < 1.3 and change.max() <= 7


def test_the_same_seed_gives_the_same_pair_in_any_batch(shipped: Generator, pairs: Pairs) -> None:
    together = grown(shipped, pairs, 0.5, 0.3)
    for k in (0, 3):
        one = slice(k, k + 1)
        alone = shipped.in_place("brick", [k], [0.5], pairs[0][one], pairs[1][one], 0.3)
        np.testing.assert_array_equal(alone[0], together[k])


def test_depth_and_strength_raise_the_distance(shipped: Generator, pairs: Pairs) -> None:
    by_depth = [distance(grown(shipped, pairs, 0.2, d), pairs) for d in (0.1, 0.3, 0.6)]
    assert by_depth == sorted(by_depth)
    by_strength = [distance(grown(shipped, pairs, s, 0.3), pairs) for s in (0.0, 1.0, 5.0)]
    assert by_strength == sorted(by_strength)


def test_without_strength_what_grows_is_normal(shipped: Generator) -> None:
    """s = 0 gives other content, as near to normal images as whole samples of s = 0 are.

    Ten images tell KID to about two: the yardstick is what strength 4 makes of the same masks.
    """
    category = next(iter(open_dataset("textures").select("brick")))
    normals = np.stack([read_image(path, 64) for path in category.train[:10]])
    others = np.stack([read_image(e.path, 64) for e in category.test if not e.anomalous])
    masks = np.zeros((10, 64, 64), dtype=np.bool_)
    masks[:, 8:56, 8:56] = True
    seeds = list(range(10))
    calm, wild = (
        shipped.in_place("brick", seeds, [s] * 10, normals, masks, 0.75) for s in (0.0, 4.0)
    )
    whole = shipped.images("brick", seeds, [0.0] * 10)
    assert np.abs(calm.astype(float) - normals)[masks].mean() > 5
    see = real()
    near, far, yardstick = (unbiased(see(x), see(others)) for x in (calm, whole, wild))
    assert near - far < 0.15 * (yardstick - far)


def test_what_does_not_fit_is_named(shipped: Generator, pairs: Pairs) -> None:
    normals, masks = pairs[0][:1], pairs[1][:1]
    with pytest.raises(UserError, match=r"depth 1\.5: expected a number above 0, at most 1"):
        shipped.in_place("brick", [0], [0.1], normals, masks, 1.5)
    with pytest.raises(UserError, match="masks of 32 x 32 pixels"):
        shipped.in_place("brick", [0], [0.1], normals, masks[:, :32, :32], 0.5)
    with pytest.raises(UserError, match="mask 0 is empty"):
        shipped.in_place("brick", [0], [0.1], normals, np.zeros_like(masks), 0.5)
    with pytest.raises(UserError, match=r"does not know category 'bricks'.*brick"):
        shipped.in_place("bricks", [0], [0.1], normals, masks, 0.5)
    colour = normals.copy()
    colour[..., 0] //= 2
    with pytest.raises(UserError, match="gray images only"):
        shipped.in_place("brick", [0], [0.1], colour, masks, 0.5)
    with pytest.raises(UserError, match="strengths"):
        sample_in_place(
            denoiser,
            scheduler(),
            to_tensor(normals, 3),
            torch.from_numpy(masks[:, None].astype(np.float32)),
            image_generators([0]),
            [0.1, 0.2],
            0.5,
        )
