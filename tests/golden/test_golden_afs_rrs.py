"""AFS and RRS against arrays computed by the RealNet authors' code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from detector.nets import afs, rrs


def test_afs_selects_the_channels_that_the_authors_code_selects(golden: Path) -> None:
    arrays = np.load(golden / "afs.npz")
    batches = [torch.from_numpy(arrays[name]) for name in ("anomalous", "normal", "mask")]
    losses = torch.stack([afs.channel_losses(a, n, m) for a, n, m in zip(*batches, strict=True)])
    selected = afs.smallest(losses.sum(dim=0), int(arrays["k"]))
    assert selected.tolist() == arrays["selected"].tolist()


def test_rrs_aligns_and_chooses_as_the_authors_code_does(golden: Path) -> None:
    arrays = np.load(golden / "rrs.npz")
    blocks = [torch.from_numpy(arrays[f"residual_stride{s}"]) for s in (4, 8)]
    residual = rrs.align(blocks)
    torch.testing.assert_close(residual, torch.from_numpy(arrays["aligned"]))
    k, channels = int(arrays["k"]), residual.shape[1]
    selection = rrs.ResidualSelection(channels, 2 * k / channels, "max&avg").eval()
    selection.norm.eps = float(arrays["bn_eps"])
    selection.norm.running_mean = torch.from_numpy(arrays["running_mean"])
    selection.norm.running_var = torch.from_numpy(arrays["running_var"])
    chosen = selection.choose(residual)
    assert chosen[:, :k].tolist() == arrays["index_max"].tolist()
    assert chosen[:, k:].tolist() == arrays["index_avg"].tolist()
    # What goes on are the unnormalised residuals of those channels, in that order.
    passed = selection(residual)
    for image in range(len(residual)):
        torch.testing.assert_close(passed[image], residual[image, chosen[image]])
