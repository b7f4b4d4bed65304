"""A checkpoint as one file for other runtimes, published only after it gave the same maps there.

`onnx` runs in onnxruntime, `torch` (torch.export) in PyTorch without this package. Both take RGB
float32 images (B, 3, R, R) in [0, 1] with any B and return maps float32 (B, R, R). What a foreign
program needs beside that (how an image becomes R x R or tiles, the image score, the threshold) lies
in the file as JSON: ONNX's metadata `detector`, torch.export's extra file `detector.json`. Where
OpenVINO is installed, the ONNX file is run there too.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detector import checkpoint, exported
from detector.frame import Frame
from detector.model import Detector
from detector.threshold import decide
from sia_gen.core.errors import UserError, VerificationError
from sia_gen.core.provenance import sha256_file, versions
from sia_gen.core.store.files import write_bytes, write_json

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-3  # of a score in [0, 1]
SIZES = (1, 3)  # images in the batches that are compared
OPSET = 18
FALSE_ALARMS = 0.05  # of the threshold that travels in the file
ONE_FILE = 1_900_000_000  # bytes of tensors; an ONNX file ends at 2 GB, more lies beside it


def passport(facts: dict[str, Any], frame: Frame) -> dict[str, Any]:
    """Returns what a foreign program must do around the network, as JSON."""
    decision = decide(facts, None, FALSE_ALARMS)
    side, tiled = frame.resolution, frame.tiled
    pad = "longer side to `side`, bilinear with antialiasing; the rest mirrored, below and right"
    whole = pad if frame.fit == "pad" else "to side x side, bilinear with antialiasing"
    return {
        "schema": 1,
        "category": facts["category"],
        "checkpoint_sha256": facts["sha256"],
        "channels": "RGB",
        "value_range": [0, 1],
        "side": side,
        "tiles": {"side": side, "overlap": frame.overlap} if tiled else None,
        "resize": "none: tiles of side x side pixels, blended over their overlap"
        if tiled
        else whole,
        "image_score": decision.image_score,
        "threshold": decision.threshold,
        "false_alarms": FALSE_ALARMS,
        "false_alarms_promised": decision.promise,
    }


def probe(count: int, resolution: int) -> torch.Tensor:
    """Returns images to compare on: smooth waves with squares of noise, (count, 3, R, R)."""
    generator = torch.Generator().manual_seed(count)
    x = torch.linspace(0, 12, resolution)
    waves = 0.5 + 0.3 * torch.sin(x)[None, None, None, :] * torch.cos(x)[None, None, :, None]
    images = waves.repeat(count, 3, 1, 1)
    side = resolution // 4
    images[:, :, side : 2 * side, side : 2 * side] = torch.rand(
        count, 3, side, side, generator=generator
    )
    return images


def _onnx(model: Detector, resolution: int, path: Path, told: dict[str, str]) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"format onnx needs the packages of the extra `export` ({error.name} is missing):"
            " pip install '.[export]' in a checkout"
        ) from error
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    torch.onnx.export(
        model,
        (probe(2, resolution),),
        path,
        input_names=["images"],
        output_names=["maps"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
        dynamo=True,
        external_data=size > ONE_FILE,
        opset_version=OPSET,
        verbose=False,
    )
    written = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(written, told)
    onnx.save(written, path)


def _torch(model: Detector, resolution: int, path: Path, told: dict[str, str]) -> None:
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(model, (probe(2, resolution),), dynamic_shapes=({0: batch},))
    with warnings.catch_warnings():
        # Folded norms share storage; torch says so where that could matter on other devices.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(
            program, path, extra_files={f"{name}.json": text for name, text in told.items()}
        )


def _run_onnx(path: Path, images: torch.Tensor) -> npt.NDArray[np.float32]:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "an ONNX file is published after it ran in onnxruntime, which is missing: pip install"
            " '.[export]' in a checkout"
        ) from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    maps: npt.NDArray[np.float32] = session.run(["maps"], {"images": images.numpy()})[0]
    return maps


def _run_openvino(path: Path, images: torch.Tensor) -> npt.NDArray[np.float32]:
    import openvino

    core = openvino.Core()
    # Its CPU plugin would round to bf16 where the hardware does; what is compared is the file.
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    maps: npt.NDArray[np.float32] = compiled(images.numpy())["maps"]
    return maps


def _run_torch(path: Path, images: torch.Tensor) -> npt.NDArray[np.float32]:
    program = torch.export.load(path)
    with torch.no_grad():
        maps: npt.NDArray[np.float32] = program.module()(images).numpy()
    return maps


def export(folder: Path, out: Path, kind: str) -> dict[str, Any]:
    """Writes a checkpoint as `out` with a JSON of its facts beside it, and returns these.

    VerificationError where the maps of the file differ from the checkpoint's: nothing is written.
    """
    if out.suffix != FORMATS[kind]:
        raise UserError(f"--out {out}: a file of format {kind} is called *{FORMATS[kind]}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: give a file")
    device = torch.device("cpu")
    facts = checkpoint.read_facts(folder)
    if folder.suffix == exported.SUFFIX:
        raise UserError(f"{folder} is an exported file: give the checkpoint's folder")
    trained = checkpoint.load(folder, device, fast=True)
    trained.model.check_export()
    resolution = trained.options.resolution
    make, run = {"onnx": (_onnx, _run_onnx), "torch": (_torch, _run_torch)}[kind]
    with torch.no_grad(), tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / out.name
        told = passport(facts, Frame.of(trained.options))
        texts = {"detector": json.dumps(told), exported.FACTS: exported.travelling(facts)}
        make(trained.model, resolution, path, texts)
        deviation = _compared(trained.model, lambda images: run(path, images), resolution)
        also = {}
        if kind == "onnx" and importlib.util.find_spec("openvino"):
            also["openvino"] = _compared(
                trained.model, lambda images: _run_openvino(path, images), resolution
            )
        described = {
            "kind": "exported detector",
            "format": kind,
            "files": {p.name: sha256_file(p) for p in sorted(path.parent.iterdir())},
            "input": f"images: float32 (batch, 3, {resolution}, {resolution}), RGB in [0, 1]",
            "output": f"maps: float32 (batch, {resolution}, {resolution}), higher: more anomalous",
            "category": facts["category"],
            "checkpoint_sha256": facts["sha256"],
            "recipe": trained.options.recipe,
            "reference": facts["reference"],
            "detector": told,
            "largest_deviation": deviation,
            "largest_deviation_also": also,
            "compared_on": f"batches of {' and '.join(str(s) for s in SIZES)} images",
            "code": versions("torch", *(("onnx", "onnxruntime") if kind == "onnx" else ()), *also),
        }
        for file in sorted(path.parent.iterdir(), reverse=True):  # the weights beside it come first
            write_bytes(out.parent / file.name, file.read_bytes())
    write_json(out.with_name(f"{out.name}.json"), described)
    return described


def _compared(
    model: Detector,
    run: Callable[[torch.Tensor], npt.NDArray[np.float32]],
    resolution: int,
) -> float:
    """Returns the largest deviation of an exported model's scores; VerificationError above 1e-3."""
    deviation = 0.0
    for count in SIZES:
        images = probe(count, resolution)
        wanted, found = model(images).numpy(), run(images)
        if wanted.shape != found.shape:
            raise VerificationError(
                f"the exported file gave maps of shape {found.shape}, not {wanted.shape}: nothing"
                " was written"
            )
        deviation = max(deviation, float(np.abs(wanted - found).max()))
    if not deviation <= TOLERANCE:
        raise VerificationError(
            f"the exported file's maps differ from the checkpoint's by up to {deviation:.2g},"
            f" more than {TOLERANCE:g}: nothing was written"
        )
    return deviation
