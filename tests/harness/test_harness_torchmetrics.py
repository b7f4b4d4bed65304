"""The metrics beside torchmetrics' own, on the same numbers (where its definition is exact)."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics import fid, image_ap, image_auroc, kid

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
