"""`sia-gen import`: a model folder from an ADM checkpoint, or every reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sia_gen.core.errors import UserError
from sia_gen.diffusion.generator import load_generator, load_unet
from sia_gen.diffusion.importing import import_adm
from sia_gen.diffusion.model_folder import describe

ARGUMENTS = {"dataset": "three", "resolution": 32, "head_channels": 16}
NAMES = ("a", "b", "c")


def test_imported_folder_gives_the_authors_output(golden: Path, tmp_path: Path) -> None:
    out = import_adm(golden / "adm_unet_tiny_ddp.pt", tmp_path / "m", classes=NAMES, **ARGUMENTS)  # type: ignore[arg-type]
    io = np.load(golden / "adm_unet_tiny_io.npz")
    x, t, y = (torch.from_numpy(io[n]) for n in ("x", "t", "y"))
    with torch.no_grad():
        output = load_unet(out).eval()(x, t, class_labels=y).sample
    np.testing.assert_allclose(output.numpy(), io["output"], rtol=1e-4, atol=1e-4)
    assert not describe(out).health
    made = load_generator(out, device="cpu", precision="fp32", steps=2).images("b", [1], [0.1])
    assert made.shape == (1, 32, 32, 3)
    with pytest.raises(UserError, match="exists: give a new folder"):
        import_adm(golden / "adm_unet_tiny.pt", out, classes=NAMES, **ARGUMENTS)  # type: ignore[arg-type]


def test_another_number_of_classes_renews_the_embedding_alone(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden / "adm_unet_tiny.pt"
    three = import_adm(source, tmp_path / "three", classes=NAMES, **ARGUMENTS)  # type: ignore[arg-type]
    five = import_adm(source, tmp_path / "five", classes=tuple("abcde"), **ARGUMENTS)  # type: ignore[arg-type]
    assert "the class embedding is new" in " ".join(capsys.readouterr().err.split())
    before, after = load_unet(three).state_dict(), load_unet(five).state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["class_embedding.weight"]


def test_every_misfit_is_named(golden: Path, tmp_path: Path) -> None:
    state = torch.load(golden / "adm_unet_tiny.pt", weights_only=True)
    broken = tmp_path / "broken.pt"

    def refused(changed: dict[str, torch.Tensor], reason: str) -> None:
        torch.save(changed, broken)
        with pytest.raises(UserError, match=reason):
            import_adm(broken, tmp_path / "out", classes=NAMES, **ARGUMENTS)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()

    missing = {k: v for k, v in state.items() if k != "out.0.weight"}
    refused(missing, "missing conv_norm_out.weight")
    refused({**state, "mystery.weight": torch.zeros(1)}, "no ADM U-Net has: mystery.weight")
    refused({**state, "out.0.weight": torch.zeros(5)}, r"conv_norm_out.weight has shape \(5,\)")
    refused({**state, "out.0.bias": state["out.0.bias"] * float("nan")}, "out.0.bias holds NaN")
    refused({"weight": torch.zeros(1)}, "no ADM U-Net")


def test_stock_diffusers_gives_the_same_image_of_an_imported_model(
    golden: Path, tmp_path: Path
) -> None:
    from diffusers import DDPMScheduler, UNet2DModel

    from sia_gen.diffusion.sampling import image_generators, to_uint8

    out = import_adm(golden / "adm_unet_tiny.pt", tmp_path / "m", classes=NAMES, **ARGUMENTS)  # type: ignore[arg-type]
    ours = load_generator(out, device="cpu", precision="fp32").images("c", [11], [0.0])
    unet = UNet2DModel.from_pretrained(str(out), subfolder="unet").eval()
    scheduler = DDPMScheduler.from_pretrained(str(out), subfolder="scheduler")
    scheduler.set_timesteps(20)
    random = image_generators([11])[0]
    x = torch.randn((3, 32, 32), generator=random)[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = unet(x, t, class_labels=torch.tensor([2])).sample
            x = scheduler.step(output, t, x, generator=random).prev_sample
    assert np.abs(ours.astype(int) - to_uint8(x).astype(int)).max() <= 1
