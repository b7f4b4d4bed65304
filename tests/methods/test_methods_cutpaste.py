"""CutPaste's two pieces: their areas, ratios, sizes and turns, and what the mask covers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sia_gen.core.errors import UserError
from sia_gen.core.pixels.changes import changed
from sia_gen.core.seeds import generator
from sia_gen.methods import cutpaste
from sia_gen.methods.cutpaste import CutPaste, Options

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (256, 256, 3), dtype=np.uint8)
WHOLE = np.ones((256, 256), np.bool_)


def test_rectangles_have_the_papers_areas_and_ratios() -> None:
    method = CutPaste(Options())
    drawn = np.array([method.sides(IMAGE, generator("s", i)) for i in range(4000)], dtype=float)
    areas, ratios = drawn.prod(axis=1) / 256**2, drawn[:, 0] / drawn[:, 1]
    assert areas.min() > 0.019 and areas.max() < 0.152
    assert areas.mean() == pytest.approx(0.085, abs=0.003)
    assert ratios.min() > 0.29 and ratios.max() < 3.4
    assert (ratios < 1).mean() == pytest.approx(0.5, abs=0.03)
    # Uniform in either half, as NSA's code draws it.
    assert np.median(ratios[ratios < 1]) == pytest.approx(0.65, abs=0.03)
    assert np.median(ratios[ratios > 1]) == pytest.approx(2.15, abs=0.1)


def test_scars_have_the_papers_sizes() -> None:
    method = CutPaste(Options(variant="scar"))
    drawn = np.array([method.scar_sides(IMAGE, generator("s", i)) for i in range(3000)])
    heights, widths = drawn.T
    assert (heights.min(), heights.max()) == (10, 25) and (widths.min(), widths.max()) == (2, 16)
    assert heights.mean() == pytest.approx(17.5, abs=0.3)
    assert widths.mean() == pytest.approx(9, abs=0.3)
    half = np.array([method.scar_sides(IMAGE[:128, :128], generator("s", i)) for i in range(500)])
    assert half[:, 0].max() <= 13 and half[:, 1].max() <= 8


def test_scars_are_turned_by_up_to_45_degrees() -> None:
    angles = []
    for i in range(60):
        pair = CutPaste(Options(variant="scar", scar_width=(4, 4), scar_height=(25, 25))).pair(
            IMAGE, WHOLE, generator("t", i)
        )
        y, x = np.nonzero(pair.mask)
        if y.size < 40:
            continue
        values, vectors = np.linalg.eigh(np.cov(x, y))
        long = vectors[:, values.argmax()]
        angles.append(np.degrees(np.arctan(long[0] / long[1])))
    assert len(angles) > 30
    assert -50 < min(angles) < -20 and 20 < max(angles) < 50


def test_union_is_either_half_of_the_time() -> None:
    areas = np.array(
        [CutPaste(Options()).pair(IMAGE, WHOLE, generator("u", i)).mask.sum() for i in range(120)]
    )
    assert (areas > 0.015 * 256**2).mean() == pytest.approx(0.5, abs=0.14)
    normal = [
        CutPaste(Options(variant="normal")).pair(IMAGE, WHOLE, generator(i)) for i in range(9)
    ]
    assert all(p.mask.sum() > 0.015 * 256**2 for p in normal)


def test_a_paste_comes_from_the_same_image_and_is_only_jittered() -> None:
    plain = CutPaste(Options(variant="normal", jitter=0.0))
    rng = generator("same", 1)
    pair = plain.pair(IMAGE, WHOLE, rng)
    y, x = np.nonzero(pair.mask)
    piece = pair.image[y.min() + 3 : y.min() + 9, x.min() + 3 : x.min() + 9]
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE[..., 0], (6, 6))
    hits = (windows == piece[..., 0]).all(axis=(2, 3))
    assert hits.sum() >= 1


def test_jitter_stays_small_and_leaves_gray_gray() -> None:
    patch = Image.fromarray(np.full((8, 8, 3), 120, np.uint8))
    for i in range(50):
        values = np.asarray(cutpaste.jittered(patch, 0.1, generator("j", i)))
        assert np.ptp(values[0, 0].astype(int)) <= 1
        assert 107 <= values.mean() <= 133
    colour = Image.fromarray(np.full((8, 8, 3), (200, 80, 40), np.uint8))
    turned = {
        np.asarray(cutpaste.jittered(colour, 0.1, generator(i)))[0, 0].tobytes() for i in range(9)
    }
    assert len(turned) == 9


def test_the_mask_is_what_changed_and_nothing_where_nothing_did() -> None:
    flat = np.full((64, 64, 3), 100, np.uint8)
    pair = CutPaste(Options(variant="normal", jitter=0.0)).pair(
        flat, np.ones((64, 64), np.bool_), generator(1)
    )
    assert not pair.mask.any()
    before = np.full((256, 256, 3), 100, np.uint8)
    after = before.copy()
    after[40:120, 40:120] += 40
    after[60, 60] = 100  # agrees by chance: still inside the patch
    mask = changed(before, after)
    assert mask[42:118, 42:118].all() and not mask[:39].any() and not mask[122:].any()
    single = before.copy()
    single[200, 200] = 255
    assert not changed(before, single).any()
    barely = before.copy()
    barely[10:60, 10:60] += 1
    assert not changed(before, barely).any()


def test_places_touch_a_small_region() -> None:
    region = np.zeros((256, 256), np.bool_)
    region[100:130, 60:90] = True
    shown = sum(
        CutPaste(Options(variant="normal")).pair(IMAGE, region, generator(i)).mask.any()
        for i in range(30)
    )
    assert shown >= 27


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "scarr"}, "Did you mean scar"),
        ({"area": (0.2, 0.1)}, "area 0.2 0.1"),
        ({"aspect": (1.5, 3.0)}, "aspect"),
        ({"scar_width": (0.0, 3.0)}, "scar_width"),
        ({"jitter": 2.0}, "jitter 2"),
    ],
)
def test_options_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Options(**values)  # type: ignore[arg-type]
