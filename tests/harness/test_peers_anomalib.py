"""A tiny peer end to end, in a process of its own, where the extra `peers` is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from detector import scorefile
from harness.cli.main import group
from harness.peers import INSTALL, catalog, installed

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not installed(), reason=f"anomalib is not installed: {INSTALL}"),
]


def test_the_installed_version_still_has_what_is_known() -> None:
    offered = set(catalog.classes())
    for name in ("patchcore", "padim", "stfpm", "cflow", "fastflow", "reverse-distillation",
                 "draem", "draem+sspcab", "dsr", "csflow", "efficientad"):  # fmt: skip
        (peer,) = catalog.select(name)
        assert peer.cls in offered


@pytest.mark.timeout(600)
def test_a_tiny_peer_runs_end_to_end(small_dataset: Path, tmp_path: Path) -> None:
    import timm
    import torch

    weights = tmp_path / "mobilenetv2_035.pt"
    torch.manual_seed(0)
    torch.save(timm.create_model("mobilenetv2_035", pretrained=False).state_dict(), weights)
    command = [
        "peers", "run", "--model", "patchcore,dsr",
        "--data", str(small_dataset), "--category", "bolt", "--size", "32", "--batch", "4",
        "--weights", str(weights), "--out", str(tmp_path / "run"), "--json",
        "--set", "patchcore.coreset_sampling_ratio=0.2", "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(group, command)
    assert done.exit_code == 0, done.stderr
    patchcore, dsr = json.loads(done.stdout)
    assert dsr["metrics"]["pixel_auroc"]["reason"].startswith("not run: needs its VQ weights")
    assert patchcore["method"] == "patchcore"
    assert patchcore["counts"]["images"] == 10  # the whole test set
    assert patchcore["metrics"]["image_auroc_own"]["value"] is not None
    assert patchcore["protocol"]["backbone"] == "mobilenetv2_035@mobilenetv2_035.pt"
    assert patchcore["protocol"]["arguments"] == {"coreset_sampling_ratio": 0.2}
    assert patchcore["run"]["train_images"] == 12
    assert patchcore["run"]["peak_memory_mib"] > 50
    scores = scorefile.read(tmp_path / "run" / "patchcore" / "small" / "bolt" / "seed-0" / "scores")
    assert scores.maps_NHW.shape == (10, 32, 32)
    assert np.ptp(scores.maps_NHW) > 0
    again = CliRunner().invoke(group, command)
    assert again.exit_code == 0
    assert "patchcore · small/bolt · seed 0: done before" in again.stderr


def test_the_fast_coreset_has_anomalibs_members() -> None:
    import torch
    from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

    from harness.peers.build import fast_coreset

    features = torch.randn(600, 80, generator=torch.Generator().manual_seed(0))

    def members() -> list[int]:
        torch.manual_seed(0), np.random.seed(0)  # noqa: NPY002 - anomalib draws from it
        return [int(i) for i in KCenterGreedy(features, 0.1).select_coreset_idxs()]

    plain = members()
    with fast_coreset():
        assert members() == plain
    assert members() == plain
