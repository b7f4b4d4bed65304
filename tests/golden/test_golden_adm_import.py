"""ADM checkpoints as UNet2DModel: the authors' outputs, both file layouts, no code run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sia_gen.core.errors import UserError
from sia_gen.diffusion import adm
from sia_gen.diffusion.safe_pickle import find_state_dict, read_torch_file
from sia_gen.diffusion.unet import PRESETS, configuration


@pytest.mark.parametrize("file", ["adm_unet_tiny.pt", "adm_unet_tiny_ddp.pt"])
def test_unet_gives_the_authors_output(golden: Path, file: str) -> None:
    from diffusers import UNet2DModel

    content, ignored = read_torch_file(golden / file)
    state = find_state_dict(content, golden / file)
    facts = json.loads((golden / "adm_unet_tiny.json").read_text())
    shape = adm.read_shape(state)
    assert shape.classes == facts["class_number"]
    head = facts["num_head_channels"]
    unet = UNet2DModel(
        **adm.unet_configuration(shape, resolution=facts["image_size"], head_channels=head)
    )
    unet.load_state_dict(adm.convert(state, head_channels=head), strict=True)
    io = np.load(golden / "adm_unet_tiny_io.npz")
    x, t, y = (torch.from_numpy(io[n]) for n in ("x", "t", "y"))
    with torch.no_grad():
        output = unet.eval()(x, t, class_labels=y).sample
    np.testing.assert_allclose(output.numpy(), io["output"], rtol=1e-4, atol=1e-4)
    assert ignored == []


def test_published_network_has_the_published_size() -> None:
    from diffusers import UNet2DModel

    with torch.device("meta"):
        arguments = configuration(PRESETS["adm-256"], channels=3, classes=15, resolution=256)
        network = UNet2DModel(**arguments)
    assert sum(p.numel() for p in network.parameters()) == 552_829_446


class Extra(dict):  # type: ignore[type-arg]
    """An options object as authors leave it beside a state dict."""


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch code-ran",)


def test_pickled_extras_are_left_unread_and_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weight = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / "extra.pt"
    torch.save({"arch": Extra(width=3), "state_dict": {"module.w": weight}}, path)
    content, ignored = read_torch_file(path)
    assert torch.equal(find_state_dict(content, path)["w"], weight)
    assert any("Extra" in name for name in ignored)
    torch.save({"arch": Code(), "state_dict": {"w": weight}}, path)
    with pytest.raises(UserError, match="no code of a checkpoint is ever run"):
        read_torch_file(path)
    path.write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(UserError, match="cannot be read"):
        read_torch_file(path)
    assert not (tmp_path / "code-ran").exists()
    path.write_bytes((tmp_path / "extra.pt").read_bytes()[:100])
    with pytest.raises(UserError, match="truncated"):
        read_torch_file(path)
    with pytest.raises(UserError, match="not a file"):
        read_torch_file(tmp_path)
