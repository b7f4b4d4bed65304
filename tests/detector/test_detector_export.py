"""Exported files give the checkpoint's maps; pictures of the selection; the folded form."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detector import Detector, checkpoint
from detector.inference import export
from detector.inference.explain import CHANNELS, LOSSES, explain
from detector.nets.folding import folded
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError, VerificationError
from sia_gen.core.pixels.images import read_image


@pytest.mark.parametrize(
    "facts", ["[]", "{}", "{bad", "[" * 100_000, '{"kind": "detector checkpoint", "schema": 1}']
)
def test_a_foreign_onnx_file_is_refused_in_one_line(facts: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.FLOAT, [1]) for name in ("images", "maps")]
    node = onnx.helper.make_node("Identity", ["images"], ["maps"])
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.helper.set_model_props(model, {"checkpoint": facts})
    onnx.save(model, str(tmp_path / "a.onnx"))
    with pytest.raises(UserError, match=r"a\.onnx"):
        Detector.load(tmp_path / "a.onnx")


def test_onnx_file_gives_the_same_maps_in_onnxruntime(
    trained: Path, stripes: Category, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, out = trained / "line" / "stripes", tmp_path / "stripes.onnx"
    facts = export.export(folder, out, "onnx")
    assert facts["largest_deviation"] < 1e-4
    assert json.loads((tmp_path / "stripes.onnx.json").read_text()) == facts
    images = np.stack([read_image(e.path, 32) for e in stripes.test[:5]])
    inputs = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (maps,) = session.run(["maps"], {"images": inputs})
    model = checkpoint.load(folder, torch.device("cpu")).model
    with torch.no_grad():
        wanted = model(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(maps, wanted, atol=1e-4)
    if importlib.util.find_spec("openvino"):
        assert facts["largest_deviation_also"]["openvino"] < 1e-3
    # All that a foreign program needs beside the network is in the file.
    told = json.loads(session.get_modelmeta().custom_metadata_map["detector"])
    assert told == facts["detector"] and (told["side"], told["tiles"]) == (32, None)
    assert told["threshold"] == Detector.load(folder, device="cpu").threshold
    # Prediction takes the file in the checkpoint's place.
    by_file, by_folder = (Detector.load(p, device="cpu") for p in (out, folder))
    assert by_file.decision == by_folder.decision and by_file.category == by_folder.category
    two = [stripes.test[0].path] * 2
    for mine, own in zip(by_file.predict(two), by_folder.predict(two), strict=True):
        np.testing.assert_allclose(mine.map, own.map, atol=1e-4)
    (tmp_path / "torn.onnx").write_bytes(out.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"torn.onnx cannot be run in onnxruntime"):
        Detector.load(tmp_path / "torn.onnx")
    # A file whose maps differ is not published.
    monkeypatch.setattr(export, "_onnx", lambda *given: shutil.copy(out, given[2]))
    monkeypatch.setattr(export, "_run_onnx", lambda _, images: images.numpy()[:, 0])
    with pytest.raises(VerificationError, match="differ from the checkpoint's"):
        export.export(folder, tmp_path / "other.onnx", "onnx")
    assert not (tmp_path / "other.onnx").exists()
    with pytest.raises(UserError, match=r"called \*\.onnx"):
        export.export(folder, tmp_path / "model.bin", "onnx")


def test_torch_export_needs_nothing_of_this_package(trained: Path, tmp_path: Path) -> None:
    folder, out = trained / "line" / "stripes", tmp_path / "stripes.pt2"
    assert export.export(folder, out, "torch")["largest_deviation"] < 1e-5
    more = {"detector.json": ""}
    program = torch.export.load(out, extra_files=more)
    assert json.loads(more["detector.json"])["side"] == 32
    images = torch.rand(4, 3, 32, 32)
    model = checkpoint.load(folder, torch.device("cpu")).model
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-4, atol=1e-5)


def test_explanation_draws_losses_and_channels(
    trained: Path, stripes: Category, tmp_path: Path
) -> None:
    folder = trained / "line" / "stripes"
    facts = explain(folder, stripes, tmp_path, source="cutpaste", columns=3, device_name="cpu")
    (layer,) = facts["layers"]
    assert (layer["layer"], layer["channels"], layer["kept"]) == (1, 64, 12)
    assert layer["mean_loss_kept"] < layer["mean_loss_dropped"]
    for name in (LOSSES, CHANNELS):
        assert read_image(tmp_path / name).std() > 1


def test_steps_show_the_residuals_that_rrs_chose(trained: Path, stripes: Category) -> None:
    model = checkpoint.load(trained / "line" / "stripes", torch.device("cpu")).model
    image = torch.from_numpy(read_image(stripes.test[0].path, 32)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        steps = model.steps(image)
        torch.testing.assert_close(steps["score"], model(image))
    kept = {f"L1:{i}" for i in model.reductions[0].index.tolist()}  # type: ignore[index,union-attr]
    names = [name for name in steps if name not in {"input", "score"}]
    assert len(names) == 4 and {name.split()[1] for name in names} <= kept
    assert {name.split()[0] for name in names} == {"max", "avg"}


def test_inference_form_gives_the_same_maps(trained: Path) -> None:
    folder, device = trained / "line" / "stripes", torch.device("cpu")
    images = torch.rand(3, 3, 32, 32)
    fast = checkpoint.load(folder, device, fast=True).model
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.backbone.net.modules())
    with torch.no_grad():
        plain = checkpoint.load(folder, device).model(images)
        torch.testing.assert_close(fast(images), plain, rtol=1e-4, atol=1e-5)


def test_norm_is_not_folded_where_that_changes_the_output() -> None:
    class Crossed(nn.Module):
        """Its children look like a convolution and its norm, but the norm comes first."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(0.5)  # type: ignore[union-attr]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(x))

    net, x = Crossed().eval(), torch.rand(1, 3, 8, 8)
    kept = folded(net, (x,))
    assert isinstance(kept.norm, nn.BatchNorm2d)
    torch.testing.assert_close(kept(x), net(x))
