"""The metrics beside torchmetrics' own, on the same numbers (where its definition is exact)."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics import fid, image_ap, image_auroc, kid
from sia_gen.core.statistics.kid import of_subsets

RNG = np.random.default_rng(11)


def test_auroc_and_ap_with_ties() -> None:
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    labels = RNG.uniform(size=400) > 0.7
    scores = np.round(RNG.uniform(size=400) * 0.5 + labels * 0.2, 2).astype(np.float32)
    given = (torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int64)))
    assert image_auroc.compute(scores, labels) == pytest.approx(float(binary_auroc(*given)), 1e-5)
    theirs = float(binary_average_precision(*given))
    assert image_ap.compute(scores, labels) == pytest.approx(theirs, 1e-5)


def test_fid_and_kid_on_the_same_features() -> None:
    import torch
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    x = RNG.normal(size=(200, 24))
    y = RNG.normal(0.3, 1.2, size=(150, 24))
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    theirs = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert fid.compute(x, y) == pytest.approx(float(theirs), rel=1e-4)

    theirs = poly_mmd(a[:150], b, degree=3, gamma=None, coef=1.0)
    assert kid.unbiased(x[:150], y) == pytest.approx(float(theirs), rel=1e-4)


@pytest.mark.parametrize("gap", [0.02, 0.002], ids=["far", "as near as chance"])
def test_kid_of_float32_features_is_that_of_float64(gap: float) -> None:
    """Features as of Inception, whose KID is a hundredth to a millionth of the kernel's values."""
    rng = np.random.default_rng(2)
    typical, trends = np.abs(rng.normal(size=512)) * 0.6, rng.normal(size=(16, 512)) * 0.05
    x, y = (
        np.maximum(
            typical + shift + rng.normal(size=(n, 16)) @ trends + rng.normal(size=(n, 512)) * 0.2, 0
        ).astype(np.float32)
        for n, shift in ((700, 0.0), (600, gap))
    )
    rows = [np.stack([rng.permutation(len(s))[:300] for _ in range(3)]) for s in (x, y)]
    found = of_subsets(x, y, *rows)
    for value, i, j in zip(found, *rows, strict=True):
        a, b = x[i].astype(np.float64), y[j].astype(np.float64)
        own, other, between = ((p @ q.T / 512 + 1.0) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        own[np.diag_indices(300)] = other[np.diag_indices(300)] = 0.0
        plain = (own.sum() + other.sum()) / (300 * 299) - 2.0 * between.mean()
        assert value == pytest.approx(plain, rel=1e-4)
    # One product for all three, above; here a product for each.
    assert of_subsets(x, y, *(r[:1] for r in rows)) == pytest.approx(found[:1], rel=1e-4)


def test_lpips_on_a_random_trunk() -> None:
    import torch
    from torchmetrics.functional.image.lpips import _LPIPS

    from harness.quality.features import lpips_from

    torch.manual_seed(5)
    theirs = _LPIPS(pretrained=True, net="alex", pnet_rand=True).eval()
    # Their trunk is torchvision's, cut into slices that keep the places of its layers.
    state = {
        f"features.{key.partition('.')[2]}": value for key, value in theirs.net.state_dict().items()
    }
    ours = lpips_from("alex", state, "0" * 64, "torchmetrics' random trunk")
    images = RNG.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    a, b = (torch.from_numpy(i).permute(2, 0, 1)[None].float() / 127.5 - 1.0 for i in images)
    with torch.inference_mode():
        expected = float(theirs(a, b))
    x, y = ours.embedded(images).astype(np.float64)
    assert float(((x - y) ** 2).sum()) == pytest.approx(expected, rel=1e-4)
