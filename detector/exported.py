"""An ONNX file of `detector export` in a checkpoint's place: the same facts, run in onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detector.model import Detector
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.documents import DocumentError, parse_json

SUFFIX = ".onnx"
FACTS = "checkpoint"  # the key of the checkpoint's facts in the file's metadata
_BULKY = ("curve", "afs_losses")  # of the training, of no use to who answers for images


def travelling(facts: dict[str, Any]) -> str:
    """Returns a checkpoint's facts as the text that goes into a file."""
    return json.dumps({k: v for k, v in facts.items() if k not in _BULKY})


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path} needs onnxruntime, which is missing: pip install '.[export]' in a checkout"
        ) from error
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    # onnxruntime raises classes of its own that only share Exception.
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be run in onnxruntime: {said}") from error


def read_facts(path: Path) -> dict[str, Any]:
    """Returns the facts of the checkpoint that a file was exported from, with the file's hash."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: `detector export CHECKPOINT --out {path}`")
    text = _session(path).get_modelmeta().custom_metadata_map.get(FACTS)
    if text is None:
        raise UserError(
            f"{path} does not hold the facts of its checkpoint (0.1.0 wrote none, other programs"
            " neither): export the checkpoint again, or give its folder"
        )
    try:
        facts = parse_json(text)
    except DocumentError as error:
        raise UserError(f"{path}: the facts in it cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise UserError(f"{path}: the facts in it are no checkpoint's")
    return {**facts, "sha256": sha256_file(path)}


class Exported(Detector):
    """The network of a file; it gives maps and nothing else, on the CPU, in float32."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session = _session(path)

    def inference_form(self) -> Detector:
        """Returns it as it is: a file is in that form."""
        return self

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Returns anomaly maps (B, H, W), higher is more anomalous, for RGB in [0, 1]."""
        (maps,) = self._session.run(["maps"], {"images": images_B3HW.contiguous().numpy()})
        return torch.from_numpy(maps)
