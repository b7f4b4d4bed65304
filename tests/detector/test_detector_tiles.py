"""Tiles and padding: what covers an image, how maps are blended, crops to train on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import tiles
from detector.frame import Frame, to_size
from detector.scorefile import image_scores
from detector.words import parse_tiles
from sia_gen.core.errors import UserError


@given(st.integers(1, 300), st.integers(16, 64), st.integers(0, 32))
@settings(max_examples=200, deadline=None)
def test_tiles_cover_every_pixel_with_weights_that_sum_to_one(
    length: int, side: int, overlap: int
) -> None:
    overlap = min(overlap, side // 2)
    total = np.zeros(length)
    for start, weight in tiles.weights(length, side, overlap):
        places = np.arange(start, start + side)
        inside = (places >= 0) & (places < length)
        total[places[inside]] += weight[inside]
        assert not weight[~inside].any() and (weight >= 0).all()
    assert total == pytest.approx(np.ones(length), abs=1e-5)
    begun = tiles.starts(length, side, overlap)
    assert all(b - a <= side - overlap for a, b in itertools.pairwise(begun))


@pytest.mark.parametrize("size", [(70, 130), (20, 90), (33, 17), (64, 64)])
def test_blended_tiles_of_a_pointwise_network_are_its_map(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    seen: list[int] = []

    def network(part: np.ndarray) -> np.ndarray:
        assert part.shape[1:] == (32, 32, 3)
        seen.append(len(part))
        return part.mean(axis=-1).astype(np.float32) / 255

    found = tiles.tiled_map(image, 32, 8, network, batch=3)
    assert found == pytest.approx(image.mean(axis=-1) / 255, abs=1e-5)
    assert max(seen) <= 3


def test_beyond_the_border_lies_its_mirror_image() -> None:
    image = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    wanted = np.pad(image, ((2, 3), (1, 5), (0, 0)), mode="symmetric")
    assert (tiles.cut(image, -2, -1, 10) == wanted[:10, :10]).all()


@pytest.mark.parametrize("text", ["8", "256:200", "a", "64:-1", "64:x"])
def test_tiles_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="tiles"):
        parse_tiles(text)


def test_padded_images_keep_their_shape_and_their_map_is_cut_back() -> None:
    frame = Frame(resolution=64, fit="pad")
    image = np.random.default_rng(1).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    fitted = frame.fitted(image)
    assert fitted.shape == (64, 64, 3) and frame.inner((100, 200)) == (32, 64)
    assert (fitted[32:] == fitted[:32][::-1]).all()
    mask = np.zeros((10, 20), dtype=bool)
    mask[:5] = True
    placed = frame.fitted_mask(mask, (100, 200))
    assert placed[:16].all() and not placed[16:32].any()
    small = frame.unfilled(np.ones((64, 64), dtype=np.float32), (100, 200))
    assert to_size(small, (100, 200)).shape == (100, 200)


def test_image_scores_of_a_large_map_equal_those_of_its_parts() -> None:
    rng = np.random.default_rng(2)
    large = rng.random((2100, 2050), dtype=np.float32)
    large[1000:1016, 700:716] += 3
    found = image_scores(large)
    assert found["score_max"] == float(large.max())
    assert found["score_avgpool16_max"] == pytest.approx(
        float(large[1000:1016, 700:716].mean()), rel=1e-6
    )
