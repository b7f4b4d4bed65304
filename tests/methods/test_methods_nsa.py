"""NSA: Poisson blending beside a direct solver and OpenCV, and the authors' table."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import linalg

from sia_gen.core.context import Context
from sia_gen.core.errors import UserError
from sia_gen.core.pixels import poisson
from sia_gen.core.seeds import generator
from sia_gen.methods import nsa

REFERENCE = np.load(Path(__file__).with_name("reference.npz"))
SIZE = 96


def direct(target: np.ndarray, source: np.ndarray, mask: np.ndarray, mixed: bool) -> np.ndarray:
    """Returns the blended image from every pixel's equation (Perez et al., Eq. 7 and 13)."""
    inside = mask.copy()
    inside[[0, -1]] = inside[:, [0, -1]] = False
    number = np.full(mask.shape, -1)
    number[inside] = np.arange(inside.sum())
    result = target.astype(float)
    for channel in range(target.shape[-1]):
        f, g = target[..., channel].astype(float), source[..., channel].astype(float)
        matrix = sparse.lil_matrix((inside.sum(), inside.sum()))
        right = np.zeros(inside.sum())
        for y, x in np.argwhere(inside):
            row = number[y, x]
            matrix[row, row] = 4
            for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                ny, nx = y + dy, x + dx
                theirs, own = g[y, x] - g[ny, nx], f[y, x] - f[ny, nx]
                right[row] += own if mixed and abs(own) > abs(theirs) else theirs
                if inside[ny, nx]:
                    matrix[row, number[ny, nx]] = -1
                else:
                    right[row] += f[ny, nx]
        result[inside, channel] = linalg.spsolve(matrix.tocsr(), right)
    return result


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("shape", ["rectangle", "disc", "two", "ring", "speckle"])
def test_poisson_blending_equals_a_direct_solver(shape: str, mixed: bool) -> None:
    rng = np.random.default_rng(4)
    target, source = rng.integers(0, 256, (2, 30, 36, 3), dtype=np.uint8)
    y, x = np.mgrid[:30, :36]
    radius = np.hypot(y - 14, x - 17)
    masks = {
        "rectangle": np.ones((30, 36), bool),
        "disc": radius < 11,
        "two": (radius < 5) | (x > 28),
        "ring": (radius < 12) & (radius > 6),
        "speckle": rng.uniform(size=(30, 36)) > 0.4,
    }
    ours = poisson.clone(target, source, masks[shape], mixed=mixed)
    np.testing.assert_allclose(ours, direct(target, source, masks[shape], mixed), atol=0.3)
    outside = ~masks[shape]
    np.testing.assert_array_equal(ours[outside], target[outside])


def test_what_is_blended_into_itself_stays() -> None:
    image = REFERENCE["target"]
    for mixed in (False, True):
        same = poisson.clone(image, image, np.ones(image.shape[:2], bool), mixed=mixed)
        np.testing.assert_allclose(same, image, atol=0.01)
    # A source that is brighter everywhere by the same amount changes nothing: only gradients count.
    lifted = poisson.clone(image, image + 30.0, np.ones(image.shape[:2], bool), mixed=False)
    np.testing.assert_allclose(lifted, image, atol=0.01)
    flat = np.full_like(image, 90)
    kept = poisson.clone(image, flat, np.ones(image.shape[:2], bool), mixed=True)
    np.testing.assert_allclose(kept, image, atol=0.01)  # mixed: the stronger gradient, the target's
    np.testing.assert_array_equal(
        poisson.clone(image, flat, np.zeros(image.shape[:2], bool), mixed=False), image
    )


def test_with_its_margin_it_is_close_to_opencvs() -> None:
    target, source = REFERENCE["target"], REFERENCE["source"]
    mask = np.zeros((48, 48), bool)
    mask[4:44, 4:44] = True
    theirs = REFERENCE["clone_normal"].astype(float)
    ours = poisson.clone(target, source, mask, mixed=False, margin=3)
    plain = poisson.clone(target, source, mask, mixed=False)
    changed = np.abs(theirs - target).mean()
    assert np.abs(ours - theirs).mean() < 0.25 * changed
    assert np.abs(ours - theirs).mean() < np.abs(plain - theirs).mean()


# The authors' table: bounds of half-widths (height, width), patches, least object and overlap,
# brightness and threshold of the ground.
TABLE: dict[str, tuple[Any, ...]] = {
    "bottle": ((0.03, 0.4), (0.03, 0.4), 3, 0.7, 0.25, (200, 60)),
    "cable": ((0.05, 0.4), (0.05, 0.4), 3, None, None, None),
    "capsule": ((0.03, 0.15), (0.03, 0.4), 3, 0.7, 0.25, (200, 60)),
    "hazelnut": ((0.03, 0.35), (0.03, 0.35), 3, 0.7, 0.25, (20, 20)),
    "metal_nut": ((0.03, 0.4), (0.03, 0.4), 3, 0.5, 0.25, (20, 20)),
    "pill": ((0.03, 0.2), (0.03, 0.4), 3, 0.7, 0.25, (20, 20)),
    "screw": ((0.03, 0.12), (0.03, 0.12), 4, 0.5, 0.25, (200, 60)),
    "toothbrush": ((0.03, 0.4), (0.03, 0.2), 3, 0.25, 0.25, (20, 20)),
    "transistor": ((0.03, 0.4), (0.03, 0.4), 3, None, None, None),
    "zipper": ((0.03, 0.4), (0.03, 0.2), 4, 0.7, 0.25, (200, 60)),
    **{
        name: ((0.03, 0.4), (0.03, 0.4), 4, None, None, None)
        for name in ("carpet", "grid", "leather", "tile", "wood")
    },
}
TEXTURES = {"carpet", "grid", "leather", "tile", "wood"}


@functools.cache
def image(index: int) -> np.ndarray:
    """Returns a dark part on a bright ground."""
    rng = np.random.default_rng(index)
    picture = rng.integers(190, 215, (SIZE, SIZE, 3))
    picture[30:70, 20:76] = rng.integers(20, 110, (40, 56, 3))
    return picture.astype(np.uint8)


def context(category: str = "d/c", kind: str = "object", **changes: Any) -> Context:
    def part(_: int) -> np.ndarray:
        mask = np.zeros((SIZE, SIZE), np.bool_)
        mask[30:70, 20:76] = True
        return mask

    values: dict[str, Any] = {"image": image, "foreground": part, "normals": 4}
    return Context(resolution=SIZE, category=category, kind=kind, **{**values, **changes})


@pytest.mark.parametrize("name", sorted(TABLE))
def test_parameters_are_the_authors_table(name: str) -> None:
    row = nsa.choose_parameters(nsa.Options(), context(f"mvtec-ad/{name}"))
    heights, widths, patches, least, overlap, ground = TABLE[name]
    assert (row.heights, row.widths, row.patches) == (heights, widths, patches)
    assert row.least_object == least and row.ground == ground
    assert overlap is None or row.least_overlap == overlap
    assert row.mixed == (name in TEXTURES)  # textures need mixed gradients, objects their own
    assert row.resize == ((0.5, 2.0) if name in TEXTURES else (0.7, 1.3))


def test_other_categories_go_by_their_kind() -> None:
    def chosen(**changes: Any) -> nsa.Parameters:
        return nsa.choose_parameters(nsa.Options(), context(**changes))

    assert chosen(kind="texture").mixed and not chosen(kind="object").mixed
    assert not chosen(kind="unknown").mixed  # a part on a ground
    whole = np.ones((SIZE, SIZE), np.bool_)
    assert chosen(kind="unknown", foreground=lambda _: whole).mixed
    # The table is MVTec-AD's alone, whatever another dataset calls its categories.
    assert chosen(category="mine/screw").heights == (0.03, 0.4)
    named = nsa.choose_parameters(nsa.Options(parameters="screw", clone="mixed"), context())
    assert named.heights == (0.03, 0.12) and named.mixed
    with pytest.raises(UserError, match="Did you mean screw"):
        nsa.Options(parameters="scew")
    with pytest.raises(UserError, match="clone 'soft'"):
        nsa.Options(clone="soft")


def test_half_widths_are_gamma_within_their_bounds() -> None:
    method = nsa.Nsa(nsa.TABLE["capsule"], context())
    drawn = np.array([method.half_widths((256, 256, 3), generator("w", i)) for i in range(4000)])
    heights, widths = drawn.T
    assert heights.min() >= 8 and heights.max() == 38  # 0.03 and 0.15 of 256
    assert widths.min() >= 8 and widths.max() <= 102
    rng = np.random.default_rng(0)
    expected = np.clip((0.03 + rng.gamma(2, 0.05, 100_000)) * 256, 8, 102).astype(int)
    assert abs(widths.mean() - expected.mean()) < 0.7
    for share in (0.1, 0.5, 0.9):
        assert abs(np.quantile(widths, share) - np.quantile(expected, share)) <= 2


@pytest.mark.parametrize(("kind", "low", "high"), [("object", 0.7, 1.3), ("texture", 0.5, 2.0)])
def test_patches_are_resized_by_a_clipped_normal(kind: str, low: float, high: float) -> None:
    row = nsa.choose_parameters(nsa.Options(), context(kind=kind))
    method = nsa.Nsa(row, context())
    drawn = np.array(
        [method.resized(40, 30, (256, 256, 3), generator("r", i)) for i in range(3000)]
    )
    factors = drawn[:, 0] / 40
    assert factors.min() == pytest.approx(low, abs=0.06)
    assert factors.max() == pytest.approx(high, abs=0.06)
    rng = np.random.default_rng(0)
    expected = np.clip(rng.normal(1, 0.5, 100_000), low, high)
    assert abs(factors.mean() - expected.mean()) < 0.04
    ratio = drawn[:, 0] / drawn[:, 1]
    assert np.abs(ratio - 40 / 30).max() < 0.15  # the ratio of sides stays


def test_the_first_patch_always_and_each_further_one_half_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = nsa.Nsa(nsa.TABLE["wood"], context())
    counts = []

    def paste(image: Any, *_: Any) -> Any:
        counts[-1] += 1
        return image

    monkeypatch.setattr(method, "_paste", paste)
    normal, part = context().image(0), context().foreground(0)
    for i in range(1000):
        counts.append(0)
        method.pair(normal, part, generator("n", i))
    shares = np.bincount(counts, minlength=5)[1:] / len(counts)
    np.testing.assert_allclose(shares, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=0.05)


def test_patches_lie_on_the_object_and_come_from_another_image() -> None:
    made = context()
    method = nsa.build(nsa.Options(), made)
    sources: list[int] = []
    original = made.image

    def watching(index: int) -> np.ndarray:
        sources.append(index)
        return original(index)

    watched = nsa.build(nsa.Options(), context(image=watching))
    part = made.foreground(0)
    shown = 0
    for i in range(30):
        pair = method.pair(made.image(0), part, generator("o", i))
        shown += int(pair.mask.any())
        assert not (pair.mask & ~part).any()
        sources.clear()
        watched.pair(made.image(0), part, generator("o", i))
        assert sources[-1] != 0
    assert shown >= 25


def test_where_no_patch_fits_the_image_comes_back() -> None:
    row = nsa.Parameters(least_object=0.99, ground=(0.0, 300.0))  # nothing is off this ground
    pair = nsa.Nsa(row, context()).pair(context().image(0), context().foreground(0), generator(1))
    assert not pair.mask.any()
